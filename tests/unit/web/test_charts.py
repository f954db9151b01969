"""The geometry of the charts: everything within the plot, nothing that was counted left out."""

from hypothesis import given
from hypothesis import strategies as st

from outbox.web.charts import HEIGHT, WIDTH, Series, Span, Step, latency_chart, rate_chart

COUNTS = st.integers(0, 10**7)
STEPS = st.lists(
    st.builds(
        lambda delivered, failed, other, average, longer: Step(
            0, delivered, failed, other, average * delivered, average + longer if delivered else 0
        ),
        COUNTS, COUNTS, COUNTS, COUNTS, COUNTS,
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@given(STEPS)
def test_every_bar_is_within_the_plot_and_as_high_as_its_count(steps: list[Step]) -> None:
    chart = rate_chart(Series(Span.HOUR, steps))
    assert chart.top >= max(step.total for step in steps)
    for bar in chart.bars:
        assert 0 <= bar.x < bar.x + bar.width <= WIDTH + 1e-6
        assert -2 <= bar.y < bar.y + bar.height <= HEIGHT + 1e-6
        count = {"delivered": bar.step.delivered, "failed": bar.step.failed, "other": bar.step.other}[bar.kind]
        assert bar.height == max(1.0, count / chart.top * HEIGHT)
    assert len(chart.bars) == sum(bool(count) for step in steps for count in (step.delivered, step.failed, step.other))


@given(STEPS)
def test_lines_stay_within_the_plot_and_break_where_nothing_was_delivered(steps: list[Step]) -> None:
    chart = latency_chart(Series(Span.HOUR, steps))
    for _name, path in chart.lines:
        points = [point.split(" ") for point in path.replace("h0", "").replace("L", "M").split("M")[1:]]
        assert len(points) == sum(bool(step.delivered) for step in steps)
        assert all(0 <= float(x) <= WIDTH and -0.1 <= float(y) <= HEIGHT for x, y in points)
        gaps = sum(
            1 for before, after in zip([Step(0), *steps], steps, strict=False) if after.delivered and not before.delivered
        )
        assert path.count("M") == gaps


def test_the_average_is_over_messages_and_not_over_steps() -> None:
    series = Series(
        Span.HOUR, [Step(0, delivered=1, latency_sum_ms=1_000), Step(60_000, delivered=9, latency_sum_ms=0), Step(0)]
    )
    assert (series.latency_ms, series.delivered) == (100.0, 10)
    assert Series(Span.HOUR, [Step(0)]).latency_ms is None


def test_an_axis_ends_at_a_number_that_is_easy_to_read() -> None:
    tops = [rate_chart(Series(Span.HOUR, [Step(0, delivered=count)])).top for count in (0, 1, 2, 3, 7, 10, 11, 501)]
    assert tops == [1, 1, 2, 5, 10, 10, 20, 1_000]


def test_one_message_that_waited_for_days_does_not_flatten_the_curve() -> None:
    usual = [Step(0, delivered=100, latency_sum_ms=100_000, latency_max_ms=2_000)] * 59
    chart = latency_chart(
        Series(Span.HOUR, [*usual, Step(0, delivered=2, latency_sum_ms=86_401_000, latency_max_ms=86_400_000)])
    )
    assert chart.top == 10_000


def test_an_axis_of_times_ends_at_a_time_that_is_easy_to_read() -> None:
    def top(latency_ms: int) -> float:
        return latency_chart(Series(Span.HOUR, [Step(0, 1, latency_sum_ms=latency_ms, latency_max_ms=latency_ms)])).top

    assert [top(latency_ms) for latency_ms in (0, 3, 1_500, 21_000, 61_000, 3_000_000)] == [
        1,
        5,
        2_000,
        30_000,
        120_000,
        3_600_000,
    ]
