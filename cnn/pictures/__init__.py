"""Pictures for people: PNG or SVG by matplotlib, without a display, in colours that every eye can tell apart."""
