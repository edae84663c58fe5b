#!/usr/bin/python3
# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""A short run of `./campaign mutants`: `check` and `convert` of broken images, judged by qemu-img."""
import tempfile
import unittest

from cli import *

sys.path.insert(0, str(ROOT / "tests" / "campaign"))
import mutants  # noqa: E402

COUNT, SEED, MOST_MEMORY = 100, 2026, 400


class Mutants(unittest.TestCase):
    def test_are_never_judged_better_than_by_qemu_img_nor_read_to_other_bytes(self):
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            judged = list(mutants.Campaign(folder, SEED, MOST_MEMORY, None).run(range(COUNT)))
        for mutant in judged:
            with self.subTest(mutant.name()):
                self.assertEqual(mutant.wrong, [])
        # That they were mutants, and that some could be read by both.
        self.assertGreater(sum(mutant.check[1] != 0 for mutant in judged), COUNT // 3)
        self.assertGreater(sum(mutant.convert == (0, 0) for mutant in judged), COUNT // 5)


if __name__ == "__main__":
    unittest.main()
