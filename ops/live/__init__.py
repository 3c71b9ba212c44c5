"""The parts of the live terminal view: what is known, where it comes from, how it is drawn."""
