"""Measured tables: which plan was fastest on a card, and where torch was faster still.

One JSON file a card, written by `python -m bench tune` and never by a call; the README here describes it.
"""
