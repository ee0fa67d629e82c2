"""What `python -m bench` and its parts promise."""
