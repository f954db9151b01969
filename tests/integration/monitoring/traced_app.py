"""What ``celery -A tests.integration.monitoring.traced_app`` runs: the application under test, followed by OpenTelemetry.

Every process of it appends the spans that end in it to one file, a line of JSON each.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from outbox.integrations.opentelemetry import instrument
from tests.integration.celery.application import Settings, create

SPANS = "OUTBOX_TEST_SPANS"


class Lines(SpanExporter):
    def __init__(self, file: Path) -> None:
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._file.open("a") as file:
            file.writelines(json.dumps(json.loads(span.to_json()) | {"pid": os.getpid()}) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def provider(file: Path) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(Lines(file)))
    return made


def spans_in(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


if SPANS in os.environ:  # not in the test's own process
    made = create(Settings.from_environment())
    instrument(made.outbox, provider(Path(os.environ[SPANS])))
    app = made.app
