"""The findings on the runs of H200s that are kept, and the study's page: python -m benchmarks.studies.h200.

Reads benchmarks/h200/workloads (batch sizes), options (engine options), scheduling (policies and waves), and lengths
where it is there: benchmarks/gpu/lengths.sh makes it, and benchmarks.gpu.keep keeps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.client import put
from benchmarks.gpu.options import table as options_table
from benchmarks.mix import DATA
from benchmarks.studies.tables import numbers, verdicts

from rejoule.analysis.findings.answer import answers, notes
from rejoule.analysis.findings.finding import shipped
from rejoule.traces.runs import load_runs

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "README.md"
DOCS: Final = HERE.parents[2] / "docs" / "findings.md"
MEASURED: Final = ("workloads", "options", "scheduling/policies", "scheduling/batching")
LENGTHS: Final = ("lengths",)


def main() -> None:
    there = [name for name in (*MEASURED, *LENGTHS) if (DATA.parent / name).is_dir()]
    folders = [load_runs(DATA.parent / name) for name in there]
    found = answers(folders, shipped())
    said = "\n".join(f"- {note}" for note in notes(folders, found))
    missing = [name for name in LENGTHS if name not in there]
    lengths = f"**Not yet run:** {', '.join(missing)}." if missing else "In the table above."
    put(PAGE, "findings", "\n\n".join((verdicts(found), numbers(found), said)))
    put(PAGE, "options", "\n".join(options_table(folders[there.index("options")].runs)))
    put(PAGE, "lengths", lengths)
    put(DOCS, "h200", f"{verdicts(found)}\n\n{said}")
    print(PAGE)


if __name__ == "__main__":
    main()
