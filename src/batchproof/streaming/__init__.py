"""The parts of `exact`: reading a call's arguments, holding the state, merging it over processes, its error bar."""
