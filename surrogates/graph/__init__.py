"""Graph networks: properties of molecular graphs, potentials of atoms in space, and fields on meshes."""
