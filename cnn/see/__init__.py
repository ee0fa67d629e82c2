"""What a network does with an image, and how networks differ: traces, sums by hand, where it looks, experiments."""
