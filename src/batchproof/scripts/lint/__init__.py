"""What a script's source says about batch sizes: rules over the places that ``source`` finds.  Never imports torch."""
