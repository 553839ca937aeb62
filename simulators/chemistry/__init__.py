"""Simulators of quantum chemistry: PySCF, xTB, any ASE calculator, and conformers from SMILES."""
