"""What a script's source says about batch sizes: rules over the places that ``sites`` finds.  Never imports torch."""
