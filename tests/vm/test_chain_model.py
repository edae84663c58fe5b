# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""Chains of backups, compared with a model of them after whatever may happen (tests/lab/chain_model.py); more of it: ./campaign
chains."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import lab  # noqa: E402
from chain_model import ChainModelTest  # noqa: E402


class Chains(ChainModelTest):
    def test_hold_what_the_model_says_after_ten_generations(self):
        self.play(seed=1, generations=10)


if __name__ == "__main__":
    lab.main()
