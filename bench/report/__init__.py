"""Tables and figures out of rows."""
