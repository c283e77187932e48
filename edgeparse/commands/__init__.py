"""Commands of their own file each, loaded when they are called; `edgeparse.cli` has the first ones and the list of all."""
