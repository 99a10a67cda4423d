"""The statements, one a file, in the order in which `esmm.samples` runs them; a package so that they ship in a zip."""
