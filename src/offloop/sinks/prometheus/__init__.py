"""Metrics for Prometheus, by its client library.

    remove = install()
    app.add_route("/metrics", metrics_app())

Counters and histograms are of all that happens in this process, whatever session it belongs to; gauges are read from the
statistics of sessions at each scrape. In a worker process nothing is recorded, since its parent hears of everything.
"""

from .described import Description, describe
from .page import metrics_app
from .recording import install

__all__ = ("Description", "describe", "install", "metrics_app")
