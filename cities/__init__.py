"""What a city is: the pack, its importers, and the bundled packs as data."""
