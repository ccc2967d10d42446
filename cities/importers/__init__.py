"""From anyone's files to a city pack."""
