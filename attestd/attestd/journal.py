"""The log: one JSON object a line on standard error, for a collector and for `jq`.

Tracebacks are plain: the values of local variables never reach the log, since there are keys and secrets among them (C06).
"""

import logging
import sys

import structlog


def configure() -> None:
    """Send the verifier's log to standard error, from INFO up."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
