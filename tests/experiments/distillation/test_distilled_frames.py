"""A potential learns energies, forces, atomic energies and curvatures of a teacher, under a head of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from composed_stages import run_stage
from flax import nnx
from small_potential import WATER, morse_labels, potential

from data.errors import CorruptStoreError, InputError
from data.formats.rows import Row
from data.json_files import read_plain
from data.molecules.writing import write_extxyz
from data.structures.structures import Structures
from experiments.distillation.frame_files import frame_answers, kept_frames
from experiments.distillation.frame_lessons import lesson_frames
from experiments.distillation.frame_teachers import SurrogateOfFrames
from experiments.distillation.settings import LessonConfig
from experiments.pages.page import write_report
from experiments.stages.distil import distil
from experiments.stages.train import train
from surrogates.potentials.atom_energies import References
from surrogates.potentials.energy import EnergyForcesLoss
from surrogates.potentials.facts import Head
from surrogates.potentials.fit import training_batches
from surrogates.potentials.lessons import TaughtBatches, TaughtFramesLoss, ask_frames, labelled_by
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.taught_fit import TaughtFrames, above_start
from surrogates.potentials.training_frames import fingerprint
from surrogates.saved import load_surrogate

NETWORK = ["model=painn", "model.network.features=8", "model.network.layers=1", "model.network.cutoff_angstrom=3.0"]
NETWORK += ["model.buckets=1", "train.epochs=3", "train.mlflow=false", "train.batch_size=8"]
SPLIT = ["data.seed=1"]
#: Of students whose weights do not matter.
NO_STEP = "train.max_seconds=0"


def shaken(count: int, seed: int, shake: float = 0.05) -> Structures:
    """Shaken molecules of water."""
    rng = np.random.default_rng(seed)
    return Structures.from_arrays(
        [np.array([8, 1, 1])] * count, [WATER + shake * rng.normal(size=WATER.shape) for _ in range(count)]
    )


def water(count: int, seed: int, shake: float = 0.05) -> Structures:
    """The same with the energies and forces of a Morse potential."""
    table = morse_labels(shaken(count, seed, shake))
    return replace(table, energy=table.energy - 10.0)


def written(path: Path, table: Structures) -> Path:
    rows = []
    for m in range(len(table)):
        atoms = slice(table.atom_start[m], table.atom_start[m + 1])
        labels = {"energy": float(table.energy[m]), "forces": table.forces[atoms]}
        rows.append(Row(m + 1, None, table.numbers[atoms], table.positions[atoms], labels))
    write_extxyz(path, rows)
    return path


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of two members, and a student of its answers for other frames under the head of the same labels."""
    folder = tmp_path_factory.mktemp("lesson")
    written(folder / "labels.xyz", water(40, 0))
    # As many as calibrate, so that one program answers both.
    written(folder / "test.xyz", water(16, 1))
    # The last frames are torn apart, and the first is one of the test.
    many = Structures.concatenate([water(1, 1), water(40, 2), water(3, 3, shake=1.0)])
    written(folder / "inputs.xyz", many)
    data = [f"data.train={folder}/labels.xyz", "data.valid=0.1", "data.calibration=0.4"]
    network = [*NETWORK, "model.ensemble=2"]
    run_stage(train, "train", folder / "teacher", "task=molecules/potentials", *data, *SPLIT, *network)
    more = ["weights.hessian=0.1", "weights.atom_energies=0.5", "alone=false"]
    run_stage(distil, "distil", folder / "student", *asked(folder), *more)
    return folder


def asked(folder: Path) -> list[str]:
    labels = [f"data.train={folder}/labels.xyz", "data.parts=[0.5,0.1,0.4,0]", f"data.test=[{folder}/test.xyz]", *SPLIT]
    return [f"teacher={folder}/teacher", f"inputs={folder}/inputs.xyz", "train=potentials", *labels, *NETWORK]


def test_curvatures_are_derivatives_of_forces_and_energies_of_atoms_add_up(lesson: Path) -> None:
    teacher = loaded(lesson / "teacher")
    frames = shaken(200, 7)
    answers = ask_frames(teacher, frames, 3)
    said = teacher.predict_structures(frames, error_bars=False)
    # Five frames are compared; the others are asked for the spread of the directions.
    few, atoms = slice(5), slice(15)
    np.testing.assert_allclose(answers.forces[atoms], said.forces[atoms], atol=2e-5)
    energy = answers.energy + teacher.facts.reference_energy(frames)
    np.testing.assert_allclose(energy[few], said.energy[few], atol=2e-5)
    np.testing.assert_allclose(np.add.reduceat(answers.atomic, frames.atom_start[:-1]), answers.energy, atol=1e-6)
    step = 1e-3
    moved = [
        teacher.predict_structures(
            replace(frames, positions=frames.positions + s * answers.direction, _neighbours={}), error_bars=False
        )
        for s in (step, -step)
    ]
    slope = (moved[0].forces - moved[1].forces)[atoms] / (2 * step)
    assert np.abs(slope - answers.curvature[atoms]).max() < 0.02 * np.abs(answers.curvature[atoms]).max()
    bare = ask_frames(teacher, frames, 3, curvatures=False)
    np.testing.assert_allclose(bare.forces, answers.forces, atol=2e-5)
    np.testing.assert_allclose(bare.energy, answers.energy, atol=2e-5)
    assert not bare.curvature.any()
    # Directions are independent and of standard deviation 1, by which the expected square is that of the Hessian.
    assert abs(answers.direction.std() - 1) < 0.05


def test_labels_and_answers_of_frames_count_by_their_weights(lesson: Path) -> None:
    teacher = loaded(lesson / "teacher")
    model, config = teacher.model, teacher.facts.config
    labels, frames = water(4, 9).with_energy(np.zeros(4)), water(3, 10)
    answers = ask_frames(teacher, frames, 0)
    table = Structures.concatenate([labels, labelled_by(frames, answers)])
    batch = next(TaughtBatches(training_batches(table, config, 7, None, None), 4, answers).epoch(0))
    np.testing.assert_array_equal(batch.taught, [0, 0, 0, 0, 1, 1, 1])
    key, end = jax.random.key(0), jnp.ones(())

    def value(*weights: float) -> float:
        return float(nnx.jit(TaughtFramesLoss(EnergyForcesLoss(), *weights))(model, batch, key, end)[0])

    # Labels alone have the usual loss.
    alone = next(training_batches(labels, config, 4, None, None).epoch(0))
    usual = float(nnx.jit(EnergyForcesLoss())(model, alone, key, end)[0])
    base = value(1.0, 0.0, 0.0, 0.0, 0.0)
    assert base == pytest.approx(usual, rel=1e-4)
    # Members differ from their mean, which was answered, by their spread: each term adds its own with its weight.
    curved = value(1.0, 0.0, 0.0, 0.0, 0.2) - base
    assert curved > 0
    assert value(1.0, 0.0, 0.0, 0.0, 0.4) - base == pytest.approx(2 * curved, rel=1e-3)
    system = jax.tree.map(jnp.asarray, batch.frames.system)
    atomic = np.asarray(model(system).atomic)[:, 4:]
    missed = np.abs(atomic - batch.atomic[4:]).sum() / 9 / (teacher.facts.scale * 2)
    assert value(1.0, 0.0, 0.0, 0.7, 0.0) - base == pytest.approx(0.7 * missed, rel=1e-2)


def loaded(run: Path) -> PotentialSurrogate:
    surrogate = load_surrogate(run / "surrogate")
    assert isinstance(surrogate, PotentialSurrogate)
    return surrogate


def test_answers_of_the_level_of_the_labels_share_their_head(lesson: Path) -> None:
    teacher, student = loaded(lesson / "teacher"), loaded(lesson / "student")
    metrics = read_plain(lesson / "student" / "metrics.json", dict[str, float], remedy="")
    assert metrics["distil/same_level"] == 1.0
    assert list(student.facts.heads) == ["main"]
    assert student.labels_fingerprint == teacher.labels_fingerprint
    assert student.facts.config.ensemble == 1
    assert student.taught_by is not None
    assert student.taught_by.fingerprint == teacher.fingerprint
    assert student.taught_by.weights["hessian"] == 0.1
    # The frame of the test and those that are torn apart teach nothing.
    kinds = ("unknown", "repeated", "held_out", "outside_domain", "answered")
    counts = {name: metrics[f"distil/{name}"] for name in kinds}
    assert sum(counts.values()) == metrics["distil/read"] == 44
    assert counts["held_out"] == 1
    assert counts["outside_domain"] + counts["unknown"] >= 3
    assert student.facts.head.energy is not None
    assert student.facts.head.energy.n == 16
    answer = student.predict_structures(water(16, 11))
    assert answer.energy_std is not None
    assert (answer.energy_std > 0).all()
    assert "speed" in write_report(lesson / "student").read_text()


def test_another_level_of_theory_has_a_head_of_its_own_and_learns_the_dynamics_of_its_teacher(
    lesson: Path, tmp_path: Path
) -> None:
    other = water(24, 12)
    written(tmp_path / "other.xyz", replace(other, energy=other.energy - 500.0, forces=0.5 * other.forces))
    dynamics = ["dynamics.walkers=4", "dynamics.steps=20", "dynamics.record_every=2", "dynamics.timestep_fs=0.1"]
    labels = [f"data.train={tmp_path}/other.xyz", "data.parts=[0.5,0.1,0.4,0]"]
    asking = [f"teacher={lesson}/teacher", "inputs=dynamics", "train=potentials", "alone=false", *dynamics]
    metrics = run_stage(distil, "distil", tmp_path / "own", *asking, *labels, *NETWORK, "train.epochs=1")
    assert metrics["distil/same_level"] == 0.0
    assert metrics["distil/read"] <= 40
    teacher, student = loaded(lesson / "teacher"), loaded(tmp_path / "own")
    assert list(student.facts.heads) == ["main", "teacher"]
    assert student.facts.heads["teacher"].references == teacher.facts.references
    assert student.facts.heads["teacher"].labels_fingerprint == teacher.fingerprint
    assert student.labels_fingerprint == fingerprint(read_structures(tmp_path / "other.xyz", None))
    # The labels alone decide the energies of their head.
    first = other.take(np.arange(12))
    difference = student.predict_structures(first).energy - (first.energy - 500.0)
    assert np.abs(np.median(difference)) < 50.0


def test_a_simulator_teaches_frames_by_a_campaign_and_its_held_out_answers_calibrate(tmp_path: Path) -> None:
    frames = water(60, 20)
    written(tmp_path / "frames.xyz", frames)
    # Two frames more than the simulator knows.
    written(tmp_path / "inputs.xyz", Structures.concatenate([frames, water(2, 21)]))
    asking = ["simulator=frames", f"simulator.file={tmp_path}/frames.xyz", "simulator.cost_s=3.0", "campaign.workers=1"]
    asking += [f"inputs={tmp_path}/inputs.xyz", "train=potentials", *NETWORK, NO_STEP]
    metrics = run_stage(distil, "distil", tmp_path / "run", *asking)
    assert (metrics["distil/failed"], metrics["distil/answered"]) == (2.0, 60.0)
    assert metrics["distil/answers_core_seconds"] == 3.0 * 62
    student = loaded(tmp_path / "run")
    assert student.taught_by is not None
    assert student.taught_by.calibrated_on == "answers of the teacher"
    assert student.labels_fingerprint == student.taught_by.fingerprint
    # Nine frames calibrate, and six are scored.
    assert student.facts.head.energy is not None
    assert student.facts.head.energy.n == 9
    assert metrics["distil/learned"] == 60 - 9 - 6 - 3
    # Its energies begin with those of the atoms, which are fitted to the answers for frames of one composition.
    residual = frames.energy - student.facts.reference_energy(frames)
    assert abs(residual.mean()) < 1e-6
    assert "agreement/forces_coverage_90" in metrics
    with pytest.raises(InputError, match="neither energies of atoms nor derivatives"):
        run_stage(distil, "distil", tmp_path / "no", *asking, "weights.hessian=0.1")


def test_trees_around_geometries_of_smiles_teach_what_the_teacher_knows(lesson: Path, tmp_path: Path) -> None:
    # A molecule of other elements, and what is none.
    (tmp_path / "inputs.smi").write_text("O\nCC\nno_molecule\n")
    trees = [
        "train=potentials",
        f"inputs={tmp_path}/inputs.smi",
        *NETWORK,
        NO_STEP,
        "tree.rattle_angstrom=0.04",
    ]
    metrics = run_stage(distil, "distil", tmp_path / "run", f"teacher={lesson}/teacher", *trees, "tree.frames=15")
    assert metrics["distil/read"] == 16
    assert metrics["distil/answered"] + metrics["distil/outside_domain"] == 16
    assert metrics["distil/frames_core_seconds"] > 0
    assert "no_molecule" in (tmp_path / "run" / "rejects.csv").read_text()
    tree = kept_frames(tmp_path / "run" / "tree" / "frames.npz", lambda: water(1, 0))
    assert len(tree) == 16
    said = loaded(lesson / "teacher").predict_structures(tree, error_bars=False)
    np.testing.assert_allclose(tree.forces, said.forces, atol=1e-4)
    # A simulator answers while it grows, and is not asked again.
    xtb = ["simulator=xtb", "simulator.outputs=[energy,forces]", "campaign.workers=1", "tree.frames=11"]
    metrics = run_stage(distil, "distil", tmp_path / "xtb", *xtb, *trees)
    assert metrics["distil/answered"] == 2 * 12
    assert not (tmp_path / "xtb" / "answers.zarr").exists()
    student = loaded(tmp_path / "xtb")
    assert student.taught_by is not None
    assert student.taught_by.name == "xtb:GFN2-xTB"
    assert student.facts.head.references.elements == (1, 6, 8)


def test_answers_are_read_again_and_damage_is_named(lesson: Path, tmp_path: Path) -> None:
    teacher, frames = loaded(lesson / "teacher"), water(3, 13)
    first = frame_answers(teacher, frames, tmp_path / "answers", 5)
    again = frame_answers(None, frames, tmp_path / "answers", 5)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first.curvature, again.curvature)
    with pytest.raises(CorruptStoreError, match="answers for other frames"):
        frame_answers(None, water(4, 13), tmp_path / "answers", 5)  # type: ignore[arg-type]
    place = tmp_path / "answers" / "000000.npz"
    damaged = bytearray(place.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    place.write_bytes(bytes(damaged))
    with pytest.raises(CorruptStoreError):
        frame_answers(teacher, frames, tmp_path / "answers", 5)
    asked = SurrogateOfFrames.of(teacher, tmp_path)
    with pytest.raises(InputError, match="fewer than two of its frames lie in the domain"):
        lesson_frames(asked, water(3, 14, shake=1.5), (), LessonConfig(), "frames.xyz")


def test_a_student_and_the_training_on_labels_alone_begin_with_the_weights_of_a_potential(
    lesson: Path, tmp_path: Path
) -> None:
    start = potential(scale=0.7)
    start.save(tmp_path / "start")
    asking = [*asked(lesson), NO_STEP, f"start={tmp_path}/start", "weights.atom_energies=0.5"]
    run_stage(distil, "distil", tmp_path / "run", *asking)
    student, teacher = loaded(tmp_path / "run"), loaded(lesson / "teacher")
    # Its network is that of the start, whatever the settings say, and without a step it has its forces.
    assert student.facts.config.network == start.facts.config.network
    assert student.facts.began_from == start.fingerprint
    frames = water(16, 30)
    said = start.predict_structures(frames, error_bars=False)
    answer = student.predict_structures(frames, error_bars=False)
    np.testing.assert_allclose(answer.forces, said.forces, atol=1e-5)
    # Its energies are those of the start but for a constant, which agrees with labels and answers in the mean.
    shift = answer.energy - said.energy
    np.testing.assert_allclose(shift, shift[0], atol=1e-4)
    assert abs(np.mean(answer.energy - frames.energy)) < 0.2
    # What it is taught of energies of atoms adds up to what it is taught of energies.
    asked_frames = shaken(6, 31)
    answers = ask_frames(teacher, asked_frames, 0)
    head = Head(References((1, 8), (-1.0, -2.0), (-1.0, -3.0)), "labels")
    taught = TaughtFrames(student.taught_by, teacher.facts.head, asked_frames, answers, asked_frames, answers)  # type: ignore[arg-type]
    heads, above = above_start(start, {"main": teacher.facts.head}, "main", None, taught, None)
    totals = above.answers.energy + heads["main"].references.energy(asked_frames)
    np.testing.assert_allclose(totals, answers.energy + teacher.facts.reference_energy(asked_frames), atol=1e-6)
    atomic = np.add.reduceat(above.answers.atomic, asked_frames.atom_start[:-1])
    np.testing.assert_allclose(atomic, above.answers.energy, atol=1e-5)
    # Answers of another method keep their own head, and energies of isolated atoms that are known stay.
    heads, _ = above_start(start, {"main": head, "teacher": head}, "teacher", water(8, 32), taught, {1: -1.5})
    assert dict(zip((1, 8), heads["teacher"].references.isolated, strict=True))[8] == -3.0
    assert heads["main"].references.isolated[0] == -1.5
