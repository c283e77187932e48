"""Show reports to people: in the terminal, as an HTML page, as images."""
