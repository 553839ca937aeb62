"""The rows of a batch that one of several processes builds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchRows:
    """The rows of the devices of one process, where each device of a training has an equal share of a batch.

    Attributes:
        first, stop: its devices, as a half-open range of places among all of them.
        devices: number of all devices.
    """

    first: int = 0
    stop: int = 1
    devices: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.stop <= self.devices:
            raise ValueError(f"devices {self.first} to {self.stop} of {self.devices} are no range of them")

    def of(self, size: int) -> slice:
        """The rows of a batch of `size` rows.

        Raises:
            ValueError: `size` is no multiple of the number of devices.
        """
        if size % self.devices:
            raise ValueError(f"a batch of {size} rows is not split evenly over {self.devices} devices")
        each = size // self.devices
        return slice(self.first * each, self.stop * each)

    def whole(self, size: int) -> int:
        """The rows of a batch of which this process has `size`."""
        return size * self.devices // (self.stop - self.first)


#: All rows of a batch.
WHOLE = BatchRows()
