"""The commands of `preftree`: what each takes and does, and the parser that follows from it."""
