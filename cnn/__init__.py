"""A LeNet at work, and how a CNN reads an image: models, data, training, pictures and the command line."""
