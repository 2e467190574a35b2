"""Whether probabilities of pairs may be believed, measured on gold, and the curve that makes them so."""
