"""Tests of models, data, training and its commands."""
