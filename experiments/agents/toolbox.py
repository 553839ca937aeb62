"""What tools share: the root, the budget, the runs and the record of calls; and how a call is answered or refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from data.errors import InputError
from data.spec import SimulationError
from experiments.agents.audit import AuditLog
from experiments.agents.budgets import Account, Budget, Spending
from experiments.agents.composition import Permissions
from experiments.agents.confinement import Root
from experiments.agents.jobs import Jobs
from experiments.agents.predictions import Loaded
from experiments.application.system_errors import system_error

T = TypeVar("T")


class Cost(BaseModel):
    """What a call itself cost, and what is left of the budget.

    Attributes:
        core_seconds: processor time of the call, with simulations in processes of their own; a run that it started is
            stated by `status`.
        seconds: wall time.
        core_seconds_left: left of the budget; runs under way count with their limits. None where it was not looked up.
    """

    core_seconds: float
    seconds: float
    core_seconds_left: float | None = None


class ToolAnswer(BaseModel, Generic[T]):
    """The result of a call, and what it cost."""

    result: T
    cost: Cost


@dataclass
class Toolbox:
    """What all tools of a server share.

    Args:
        stages: name of a stage -> its module and its line of help.
        root: the folder of all runs.
        permissions: what is allowed beyond the defaults.
        budget: the limits.
        read_only: whether no run is started or stopped, and nothing is written but the record of calls.
    """

    stages: Mapping[str, Any]
    root: Root
    permissions: Permissions = field(default_factory=Permissions)
    budget: Budget = field(default_factory=Budget)
    read_only: bool = False
    #: Held from the look at the budget until a run counts in it.
    starting: threading.Lock = field(default_factory=threading.Lock, repr=False)
    loaded: Loaded = field(default_factory=Loaded, repr=False)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.root, self.permissions.refused)
        self.audit = AuditLog(self.root.kept)
        self.account = Account(self.budget, self.jobs, self.audit)

    def spending(self) -> Spending:
        """What was spent, and what is left."""
        return self.account.spending()

    def answer(
        self, work: Callable[[], T], *, spent: Callable[[T], float] = lambda result: 0.0, computes: bool = False
    ) -> ToolAnswer[T]:
        """Do the work of a call, and state what it cost.

        Args:
            work: returns the result.
            spent: of the result, processor time of other processes, core-seconds.
            computes: whether the call computes, and so counts in the budget.

        Raises:
            ToolError: the call is refused, or fails in a way that its caller can act on: a JSON object with kind,
                problem, where and remedy.
        """
        clock = time.process_time if computes else time.thread_time
        began, cpu = time.perf_counter(), clock()
        try:
            if computes:
                self.account.refuse_call()
            result = work()
        except (InputError, SimulationError) as error:
            raise refused(error) from error
        except OSError as error:
            if (problem := system_error(error, "")) is None:
                raise
            raise refused(problem) from error
        finally:
            if computes:
                self.account.add_call(clock() - cpu)
        others = spent(result)
        if computes:
            self.account.add_call(others)
        left = self.spending().core_seconds_left if computes else None
        core_seconds = clock() - cpu + others
        cost = Cost(core_seconds=core_seconds, seconds=time.perf_counter() - began, core_seconds_left=left)
        return ToolAnswer[Any](result=result, cost=cost)


def refused(error: InputError | SimulationError, **more: Any) -> ToolError:
    """The error of a tool: its problem, where it is and what to do, as a JSON object."""
    if isinstance(error, SimulationError):
        facts: dict[str, Any] = {"kind": error.kind, "problem": error.message, "where": None, "remedy": None}
    else:
        facts = {"kind": "input_error", "problem": error.problem, "where": error.where, "remedy": error.remedy}
    return ToolError(json.dumps({**facts, **more}, default=str))
