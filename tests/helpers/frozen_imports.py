"""Imported last by the process that commands are forked from: what it has imported is left out of garbage collections.

A collection in a fork would otherwise visit every module, and copy the pages that it shares with the process.
"""

from __future__ import annotations

import gc

import quick_yaml

quick_yaml.install()
gc.collect()
gc.freeze()
