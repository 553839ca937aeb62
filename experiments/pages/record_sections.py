"""Sections for the record: what failed, where the numbers come from, and how to make them again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.store.records import RecordStore
from experiments.pages.accuracy_sections import why_absent
from experiments.pages.formatting import absent, count, escape, metric, percent, plural, table
from experiments.pages.pipeline_run import PipelineRun, StageFailures
from experiments.pages.reproduce import command

PACKAGES = (
    "understudy",
    "jax",
    "flax",
    "optax",
    "numpy",
    "rdkit",
    "pyscf",
    "tblite",
    "scikit-learn",
    "pyarrow",
    "zarr",
)
FILES = ("config.yaml", "metrics.json", "split.json", "evaluation.parquet", "learning_curve.json", "recheck.parquet",
         "costs.json", "screen/top.csv", "screen/rejects.csv")  # fmt: skip
DEPTH = 200_000


def failures(run: PipelineRun) -> str:
    """What was refused or failed, by stage and reason."""
    blocks = []
    for fidelity in ("cheap", "expensive"):
        name = f"Labels by {run.method_name(fidelity)}"
        outcome = run.labels.get(fidelity)
        done, failed = run.metric(f"labels/{fidelity}/done"), run.metric(f"labels/{fidelity}/failed")
        if outcome is None and failed is None:
            blocks.append(absent(name, why_absent(run, f"labels/{fidelity}.zarr")))
            continue
        counts = []
        if done is not None:
            counts.append(f"{metric(f'labels/{fidelity}/done', done, count(done))} done")
        if failed is not None:
            counts.append(f"{metric(f'labels/{fidelity}/failed', failed, count(failed))} failed")
        text = (
            f"<h3>{escape(name)}</h3><p>{', '.join(counts) or plural(outcome.failed if outcome else 0, 'failure')}.</p>"
        )
        if outcome is None:
            text += absent("the reasons", why_absent(run, f"labels/{fidelity}.zarr"))
        else:
            text += _reasons(outcome, "Molecule")
        blocks.append(text)
    if run.recheck is not None:
        bad = [i for i, s in enumerate(run.recheck.status) if s != "ok"]
        blocks.append(
            f"<h3>Re-check</h3><p>{plural(len(bad), 'failure')} in {plural(len(run.recheck.smiles), 'simulation')}.</p>"
        )
        rows = [
            [
                f"<code>{escape(run.recheck.smiles[i])}</code>",
                escape(run.recheck.status[i]),
                escape(run.recheck.message[i][:200]),
            ]
            for i in bad[:8]
        ]
        blocks.append(table(["Molecule", "Kind", "Message"], rows, wordy=True) if rows else "")
    if run.rejects is None:
        blocks.append(absent("candidates that could not be read", why_absent(run, "screen/rejects.csv")))
    else:
        total = run.metric("funnel/candidates") or run.metric("screen/molecules")
        share = f" ({percent(run.rejects.failed / total)} of the candidates)" if total else ""
        blocks.append(f"<h3>Candidates that could not be read</h3><p>{count(run.rejects.failed)}{share}.</p>")
        blocks.append(_reasons(run.rejects, "Line"))
    return "".join(blocks)


def _reasons(failures: StageFailures, what: str) -> str:
    if not failures.reasons:
        return ""
    rows = [[escape(kind), count(n)] for kind, n in list(failures.reasons.items())[:12]]
    text = table(["Reason", "Count"], rows)
    examples = [
        [f"<code>{escape(x[:120])}</code>", escape(kind), escape(message[:240])]
        for x, kind, message in failures.examples
    ]
    shown = table([what, "Reason", "Message"], examples, wordy=True)
    return f"{text}<details><summary>Examples</summary>{shown}</details>"


def provenance(run: PipelineRun) -> str:
    """Configuration, versions, fingerprints, and the command that makes the run again."""
    blocks = []
    again = command(run.config)
    if again:
        blocks.append(f"<h3>Make it again</h3><pre>{escape(again)}</pre>")
        blocks.append(
            '<p class="note">The same configuration and seeds draw the same molecules and labels; timings depend on the machine.</p>'
        )
    else:
        blocks.append(absent("the command that makes this run again", why_absent(run, "config.yaml")))
    rows = []
    for fidelity in ("cheap", "expensive"):
        facts = label_facts(run.path / "labels" / f"{fidelity}.zarr")
        if facts:
            rows.append([escape(run.method_name(fidelity)), *(escape(facts.get(k, "not recorded")) for k in ("simulator", "version")),
                         f"<code>{escape(facts.get('fingerprint', 'not recorded'))}</code>"])  # fmt: skip
    if rows:
        blocks.append(
            "<h3>Simulators</h3>" + table(["Labels", "Simulator", "Version", "Fingerprint"], rows, wordy=True)
        )
    else:
        blocks.append(
            absent("the simulators' versions and fingerprints", "no label store with provenance lies under labels/.")
        )
    versions = [[escape(name), escape(version)] for name, version in installed()]
    blocks.append(
        "<details><summary>Versions of the packages that wrote this page</summary>"
        + table(["Package", "Version"], versions, wordy=True)
        + "</details>"
    )
    sums = [
        [f"<code>{escape(n)}</code>", f"<code>{digest(run.path / n)}</code>"] for n in FILES if (run.path / n).is_file()
    ]
    if sums:
        blocks.append(
            "<details><summary>SHA-256 of the files behind this page</summary>"
            + table(["File", "SHA-256"], sums, wordy=True)
            + "</details>"
        )
    for title, path in documents(run.path):
        blocks.append(
            f"<details><summary>{escape(title)}</summary><pre>{escape(path.read_text(encoding='utf-8', errors='replace'))}</pre></details>"
        )
    if run.metrics:
        listed = [[f"<code>{escape(k)}</code>", metric(k, v, f"{v:.6g}")] for k, v in sorted(run.metrics.items())]
        blocks.append(
            "<details><summary>All of metrics.json</summary>" + table(["Key", "Value"], listed) + "</details>"
        )
    return "".join(blocks)


def documents(path: Path) -> list[tuple[str, Path]]:
    """Short text files worth showing whole: the configuration, and what the surrogate says of itself."""
    files = [("Configuration (config.yaml)", path / "config.yaml")]
    files += [(f"Surrogate ({p.relative_to(path).as_posix()})", p) for p in sorted((path / "surrogate").glob("*.json"))]
    return [(title, p) for title, p in files if p.is_file() and p.stat().st_size <= DEPTH]


def installed() -> list[tuple[str, str]]:
    """Python and the packages that matter, with their versions."""
    versions = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return versions


def label_facts(store: Path) -> dict[str, str]:
    """`simulator`, `version` and `fingerprint` from the attributes of a store; empty if unreadable."""
    try:
        if (store / "store.json").is_file():
            # It is verified; what the Zarr group repeats is not.
            attributes = RecordStore.open(store).attrs
        else:
            attributes = json.loads((store / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
    except (OSError, ValueError, AttributeError, InputError):
        return {}
    facts: dict[str, str] = {}
    for layer in _mappings(attributes):
        for key in ("simulator", "version", "fingerprint"):
            if isinstance(layer.get(key), str | int | float):
                facts.setdefault(key, str(layer[key]))
    return facts


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """A mapping and those inside it, the outermost first; JSON strings of objects are opened."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    if not isinstance(value, dict):
        return []
    return [value] + [inner for item in value.values() for inner in _mappings(item)]


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
