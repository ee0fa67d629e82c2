"""Images as tensors: scikit-learn's digits, MNIST, a folder of images by class, one image of one's own."""
