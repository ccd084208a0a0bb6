"""The paper's tables as code: ablations, comparisons with intervals, runtime."""
