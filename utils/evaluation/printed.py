"""Tables of results as text, for the terminal."""

from utils.evaluation import tables
from utils.evaluation.scores import Results
from utils.variants import title


def print_dataset(results: Results, name: str) -> None:
    """Print a dataset's table of classes, of a variant only the mean."""
    scores = results.datasets[name]
    if scores.summary is None:
        nothing = (
            "all images were left out" if name in results.left_out and not scores.images else "no labels"
        )
        print(f"\n{name}: {nothing}, so no scores", flush=True)
    elif not results.has_own_table(name):
        print(f"{title(name)}: mIoU {tables.percent(scores.summary.mean_iu)}", flush=True)
    else:
        rows = tables.class_rows(results.classes, scores.summary, scores.boundary)
        print(f"\n{name}\n{tables.text_table(rows)}")
        print(tables.summary_lines(results.classes, scores, scores.summary), flush=True)


def print_datasets(results: Results) -> None:
    """Print the table of datasets."""
    if results.labelled:
        print(f"\n{results.how}")
        for metric in results.metrics:
            print(tables.text_table(tables.dataset_rows(results, metric)))
    for heading, every, note in tables.variant_tables(results):
        print("\n".join(["", heading, *map(tables.text_table, every), *[note] * bool(note)]))
