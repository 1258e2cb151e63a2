"""The order of the gallery: first what a model does, then how to choose and use it, then its parts."""

ORDER = (
    "gaussians",
    "digits",
    "holes",
    "compare_models",
    "priors",
    "uncertainty",
    "anomalies",
    "pipeline",
    "grid_search",
    "dataframes",
    "tables",
    "mixed",
    "what_if",
    "missing",
    "imputation",
)


class ReadingOrder:
    """A sorting key of the examples: those of `ORDER` first, the others by name."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        name = filename.removeprefix("plot_").removesuffix(".py")
        return ORDER.index(name) if name in ORDER else len(ORDER), name
