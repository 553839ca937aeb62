"""Tools that compute an answer in the call itself, and leave nothing behind."""

# The signatures of tools are read when they are registered, so that their annotations are objects here, and no texts.
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from data.errors import InputError
from experiments.agents import predictions
from experiments.agents.conformance import Conformance, requests_in, test_simulator, test_surrogate
from experiments.agents.single_requests import MOST_SECONDS, SingleAnswer, chosen_simulator, request_of, simulate_one
from experiments.agents.toolbox import ToolAnswer, Toolbox

Request = dict[str, Any]
Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS, description="seconds after which the simulation is killed")]
Settings = Annotated[list[str], Field(description="settings of the simulator, such as simulator.method=Radau")]


def computing_tools(box: Toolbox) -> list[Callable[..., Any]]:
    """The tools."""

    def predict(
        surrogate: Annotated[str, Field(description="directory of a surrogate, or of the run that trained it")],
        inputs: Annotated[
            list[Request],
            Field(description="requests: name of an input -> value, in its unit", max_length=predictions.MOST_INPUTS),
        ],
    ) -> ToolAnswer[predictions.Predictions]:
        """Answers of a trained surrogate for up to 1,000 requests: values with calibrated intervals, whether each
        request lies in the training domain, units, and the fingerprint of the surrogate. Outside of the domain
        intervals do not hold.
        """

        def work() -> predictions.Predictions:
            directory = predictions.surrogate_place(surrogate, box.root)
            return predictions.predict(box.loaded.surrogate(directory), box.root.relative(directory), inputs)

        return box.answer(work, computes=True)

    def one(
        simulator: Annotated[str, Field(description="name of a simulator, or directory of a run of simulate")],
        inputs: Annotated[Request, Field(description="name of an input -> value, in its unit")],
        settings: Settings = [],  # noqa: B006
        timeout_s: Seconds = 30,
    ) -> ToolAnswer[SingleAnswer]:
        """The answer of a simulator to one request, in a process that is killed at the limit of time. A molecule may be
        given as {"smiles": ...}. A failure is an answer too: its kind, message and what to try.
        """

        def work() -> SingleAnswer:
            chosen = chosen_simulator(box.stages, simulator, settings, box.root, box.permissions)
            return simulate_one(*request_of(chosen, inputs), timeout_s)

        return box.answer(work, spent=lambda answer: answer.simulation_core_seconds, computes=True)

    def test(
        kind: Literal["simulator", "surrogate"],
        name: Annotated[str, Field(description="name of a simulator or directory of a run; directory of a surrogate")],
        requests: Annotated[list[Request], Field(description="requests that it should answer", max_length=5)] = [],  # noqa: B006
        labels: Annotated[
            str | None, Field(description="store of records: gives requests, and truths for the coverage")
        ] = None,
        settings: Settings = [],  # noqa: B006
        timeout_s: Seconds = 10,
    ) -> ToolAnswer[Conformance]:
        """Whether a simulator or a surrogate keeps its promises: equal answers to equal requests, names, units and
        finite values, refusals, and coverage of its intervals on labels that it has not seen.
        """

        def work() -> Conformance:
            store = None if labels is None else box.root.inside(labels, "labels")
            if store is not None and not store.exists():
                raise InputError("no such store", where="labels", remedy="Name what understudy simulate made")
            if kind == "surrogate":
                directory = predictions.surrogate_place(name, box.root)
                surrogate = box.loaded.surrogate(directory)
                asked = list(requests)
                if not asked and store is not None and (store / "store.json").is_file():
                    asked = requests_in(store, [v.name for v in surrogate.spec.inputs])
                return test_surrogate(surrogate, directory, asked, store)
            chosen = chosen_simulator(box.stages, name, settings, box.root, box.permissions)
            asked = list(requests)
            if not asked and store is not None:
                asked = requests_in(store, [v.name for v in chosen.spec.inputs])
            if not asked:
                raise InputError("no requests are given", where="requests", remedy="Give some, or labels=STORE")
            pairs = [request_of(chosen, request) for request in asked]
            return test_simulator(pairs[0][0], [request for _, request in pairs], timeout_s)

        return box.answer(work, spent=lambda done: done.simulation_core_seconds, computes=True)

    one.__name__ = "simulate_one"
    return [predict, one, test]
