"""Tests of the package cnn."""
