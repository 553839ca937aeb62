"""Detects whether a method has a dispersion correction, by request or by the name of its functional.

D3(BJ): Grimme, Ehrlich, Goerigk, J. Comput. Chem. 2011, 32, 1456; D4: Caldeweyher et al., J. Chem. Phys. 2019,
150, 154122; both by pyscf-dispersion.
"""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=128)
def is_corrected(method: str, dispersion: str | None) -> bool:
    """Whether PySCF adds dispersion to a method.

    Args:
        method: "hf" or a functional that PySCF knows.
        dispersion: "d3bj", "d3zero" or "d4"; None: the correction in the functional's name ("wb97x-d3bj"), if any.

    Raises:
        ValueError: the correction has no parameters for this method, or PySCF does not know it.
    """
    from pyscf import dft, gto, scf

    # PySCF looks parameters up lazily, so a correction is computed as a test.
    mol = gto.M(atom="H 0 0 0; H 0 0 0.74", basis="sto-3g", verbose=0)
    try:
        mf = scf.RHF(mol) if method == "hf" else dft.RKS(mol, xc=method)
        mf.disp = dispersion
        if not mf.do_disp():
            return False
        mf.get_dispersion()
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return True
