"""The rules that close races, each with the code that keeps it and the tests that fail when it is taken out."""

from collections.abc import Mapping, Sequence

from tests.rules.rule import NEITHER, POSTGRESQL, SQLITE, Rule

CONTRACT = "tests/contract"
LOOPS = "tests/integration/loops"
STORE = "outbox/store"


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{name}" for name in names)


FENCES: Sequence[Rule] = [
    Rule(
        "A delivery task takes a row only with the lease that it carries: a copy from before an attempt, a postponement or a"
        " replay is a no-op.",
        f"{STORE}/taking.py",
        'm.c.lease == r.c.lease,\n            m.c.channel == bindparam("of_channel"),',
        'm.c.channel == bindparam("of_channel"),',
        _tests(
            f"{CONTRACT}/test_fences.py",
            "a_copy_of_an_earlier_attempt_is_not_taken",
            "a_copy_from_before_a_postponement_is_not_taken",
            "a_copy_from_before_a_replay_is_not_taken",
        ),
    ),
    Rule(
        "A take that waits for a cancel, an expiry or another take of the row sees what became of it, and is refused.",
        f"{STORE}/taking.py",
        "status_in(m, sources(Event.TAKE)),",
        "",
        _tests(f"{CONTRACT}/test_races.py", "a_take_waits_for_a_cancel_and_is_refused"),
    ),
    Rule(
        "A row that was given back is taken only once it is due.",
        f"{STORE}/taking.py",
        "or_(m.c.status == literal(Status.DISPATCHED), m.c.next_attempt_at <= sql.began),",
        "",
        _tests(f"{CONTRACT}/test_fences.py", "a_future_row_that_was_released_is_not_taken_before_its_moment"),
    ),
    Rule(
        "Each take raises the lease, so that every write of an earlier attempt misses.",
        f"{STORE}/taking.py",
        "lease=m.c.lease + 1,\n            attempt_count",
        "attempt_count",
        _tests(
            f"{CONTRACT}/test_fences.py", "an_attempt_whose_row_was_taken_since_records_nothing", "the_lease_only_ever_grows"
        ),
    ),
    Rule(
        "Publishing again leaves the lease as it was: every copy of an unstarted message stays valid, and the first wins.",
        f"{STORE}/claiming.py",
        ".values(lease_until=_horizon(sql, m.c), ",
        ".values(lease_until=_horizon(sql, m.c), lease=m.c.lease + 1, ",
        (
            *_tests(f"{CONTRACT}/test_races.py", "a_take_waits_for_a_redispatch_and_is_admitted"),
            *_tests(f"{CONTRACT}/test_fences.py", "of_a_message_and_its_redispatched_copy_the_first_to_arrive_wins"),
        ),
    ),
    Rule(
        "A success counts as long as the lease is unchanged, whatever rescue, park, expiry or cancel made of the row.",
        f"{STORE}/settling.py",
        "m.c.lease == r.c.lease, m.c.status != literal(Status.DELIVERED))",
        "m.c.lease == r.c.lease, m.c.status == literal(Status.SENDING))",
        (
            *_tests(f"{CONTRACT}/test_races_of_outcomes.py", "t9_a_success_that_waits_for_the_rescue_is_recorded"),
            *_tests(
                f"{CONTRACT}/test_races_of_late_outcomes.py",
                "invariant_9_a_success_that_waits_for_whatever_ends_its_row_is_recorded",
                "an_outcome_that_waits_for_the_parents_rescue_is_recorded_if_it_is_a_success",
            ),
            *_tests(
                f"{CONTRACT}/test_fences.py",
                "invariant_9_a_late_success_of_the_attempt_that_holds_the_lease_saves_a_duplicate",
            ),
        ),
    ),
    Rule(
        "A success without the lease records nothing: somebody took or replayed the row since.",
        f"{STORE}/settling.py",
        "m.c.lease == r.c.lease, m.c.status != literal(Status.DELIVERED))",
        "m.c.status != literal(Status.DELIVERED))",
        _tests(f"{CONTRACT}/test_races_of_outcomes.py", "a_success_that_waits_for_a_replay_is_lost"),
    ),
    Rule(
        "What is delivered is not delivered again by an outcome that comes twice.",
        f"{STORE}/settling.py",
        "m.c.lease == r.c.lease, m.c.status != literal(Status.DELIVERED))",
        "m.c.lease == r.c.lease)",
        (
            *_tests(f"{CONTRACT}/test_fences.py", "t5_an_outcome_is_recorded_once_and_only_a_success_may_correct_a_failure"),
            *_tests(f"{CONTRACT}/test_races_of_operators.py", "a_late_success_that_waits_for_a_resolve_changes_nothing"),
        ),
    ),
    Rule(
        "Every outcome but a success needs the row to be `sending` still: a late failure is dropped, and counted.",
        f"{STORE}/settling.py",
        "m.c.lease == r.c.lease, m.c.status == literal(Status.SENDING))",
        "m.c.lease == r.c.lease)",
        (
            *_tests(f"{CONTRACT}/test_races_of_outcomes.py", "t5_a_failure_that_waits_for_the_rescue_is_lost"),
            *_tests(f"{CONTRACT}/test_races_of_late_outcomes.py", "t5_a_failure_that_comes_while_its_row_ends_is_lost"),
        ),
    ),
    Rule(
        "It needs the lease as well: the row may be `sending` for another attempt.",
        f"{STORE}/settling.py",
        "m.c.lease == r.c.lease, m.c.status == literal(Status.SENDING))",
        "m.c.status == literal(Status.SENDING))",
        _tests(f"{CONTRACT}/test_fences.py", "an_attempt_whose_row_was_taken_since_records_nothing"),
    ),
    Rule(
        "A replay raises the lease: whatever was under way before it records nothing.",
        f"{STORE}/operating.py",
        "lease=m.c.lease + 1,\n            attempt_count=literal(0),",
        "attempt_count=literal(0),",
        (
            *_tests(f"{CONTRACT}/test_races_of_outcomes.py", "a_success_that_waits_for_a_replay_is_lost"),
            *_tests(f"{CONTRACT}/test_fences.py", "an_attempt_from_before_a_replay_records_nothing"),
        ),
    ),
    Rule(
        "A postponement of ours raises the lease: a copy from before it is not taken, and a deferred head still holds its key.",
        f"{STORE}/claiming.py",
        "sql.now + CLOSED_UNTIL_RESUMED_MS), lease=m.c.lease + 1)",
        "sql.now + CLOSED_UNTIL_RESUMED_MS))",
        (
            *_tests(f"{CONTRACT}/test_fences.py", "a_copy_from_before_a_postponement_is_not_taken"),
            *_tests(f"{CONTRACT}/test_ordering.py", "a_head_postponed_for_its_destination_does"),
        ),
    ),
    Rule(
        "A heartbeat moves the lease only of a row that is still its sender's.",
        f"{STORE}/taking.py",
        "m.c.lease == r.c.lease, m.c.status == literal(Status.SENDING))\n        .values(lease_until=case(",
        "m.c.lease == r.c.lease)\n        .values(lease_until=case(",
        (
            *_tests(f"{CONTRACT}/test_races_of_outcomes.py", "a_heartbeat_that_waits_for_the_rescue_is_missed"),
            *_tests(f"{CONTRACT}/test_races_of_late_outcomes.py", "a_heartbeat_that_waits_for_the_parents_rescue_is_missed"),
        ),
    ),
    Rule(
        "A heartbeat never moves the lease past the whole timeout and margin of its attempt.",
        f"{STORE}/taking.py",
        "case((until > latest, latest), else_=until)",
        "case((until > latest, until), else_=until)",
        _tests(f"{CONTRACT}/test_take_and_settle.py", "a_heartbeat_never_moves_the_lease_past_the_limit_of_the_attempt"),
    ),
]

TIME: Sequence[Rule] = [
    Rule(
        "On SQLite a verb's time is read once it holds the write lock, for which it may have waited.",
        f"{STORE}/sqlstore.py",
        "            with connection.begin():\n                yield Transaction(connection, self.sql, self._clock.now_ms())",
        "            now_ms = self._clock.now_ms()\n            with connection.begin():\n"
        "                yield Transaction(connection, self.sql, now_ms)",
        _tests(f"{CONTRACT}/test_inspecting.py", "the_time_is_read_once_the_write_lock_is_held"),
        SQLITE,
    ),
    Rule(
        "On PostgreSQL time is read at each statement, not once a transaction, which may have waited since.",
        f"{STORE}/postgresql.py",
        "func.clock_timestamp()",
        "func.now()",
        _tests(
            f"{CONTRACT}/test_inspecting.py",
            "postgresql_reads_its_own_clock_at_each_statement_and_not_once_a_transaction",
        ),
        POSTGRESQL,
    ),
    Rule(
        "A rescue by time leaves a live worker, whose settle waits for a lock, the time to settle first.",
        "outbox/policy/retry.py",
        "max(policy.backoff.after(message.attempt_count), SHORTEST_RESCUE_DELAY_MS)",
        "policy.backoff.after(message.attempt_count)",
        _tests("tests/unit/test_retry_policy.py", "rescue_by_time_waits_for_a_live_worker_to_settle_first"),
        NEITHER,
    ),
    Rule(
        "No send begins unless the time since before its take leaves the whole timeout within the lease.",
        "outbox/sending.py",
        "if self._given_up or now > self.begin_by:",
        "if self._given_up:",
        _tests(
            f"{LOOPS}/test_unruly_adapters.py",
            "a_send_that_could_not_begin_in_time_is_given_back_uncharged",
        ),
        NEITHER,
    ),
    Rule(
        "A send that outlives its timeout is on record as unknown while its lease still holds.",
        "outbox/under_way.py",
        "if job.is_overdue() and job.before not in self._jobs]",
        "if False]",
        _tests(f"{LOOPS}/test_unruly_adapters.py", "a_wedged_send_is_noticed_while_its_lease_still_holds"),
        NEITHER,
    ),
    Rule(
        "Moments that a clock which jumped has left further ahead than the engine writes them are brought back.",
        f"{STORE}/rewinding.py",
        "m.c.next_attempt_at > _ahead(sql))",
        "m.c.next_attempt_at < literal(0))",
        _tests(f"{LOOPS}/test_maintenance.py", "times_further_ahead_than_the_engine_writes_are_brought_back"),
        NEITHER,
    ),
    Rule(
        "What a claim has dispatched since it was looked for stays as it is.",
        f"{STORE}/rewinding.py",
        "select(r.c.seq)), _retried_ahead(sql))",
        "select(r.c.seq)))",
        _tests(f"{CONTRACT}/test_rewinding.py", "what_a_claim_is_dispatching_is_not_moved"),
        POSTGRESQL,
    ),
    Rule(
        "They are looked for a portion at a time, and the next portion begins where the last one ended.",
        f"{STORE}/rewinding.py",
        "if len(rows) == limit:",
        "if not rows:",
        _tests(f"{CONTRACT}/test_rewinding.py", "behind_any_number_of_scheduled_messages_it_is_found_by_and_by"),
    ),
]

PRESSURE: Sequence[Rule] = [
    Rule(
        "A claim passes over rows that another claim, or an operator, has locked.",
        f"{STORE}/claiming.py",
        '.limit(bindparam("limit"))\n        .with_for_update(skip_locked=True)\n    )\n\n\n@lru_cache(maxsize=64)\n'
        "def _set_postponed",
        '.limit(bindparam("limit"))\n    )\n\n\n@lru_cache(maxsize=64)\ndef _set_postponed',
        _tests(
            f"{CONTRACT}/test_races.py",
            "two_claims_at_once_share_the_rows_and_neither_waits",
            "a_claim_passes_over_a_row_that_an_operator_is_cancelling",
        ),
        POSTGRESQL,
    ),
    Rule(
        "Two relays at once publish an overdue row once.",
        f"{STORE}/claiming.py",
        '.limit(bindparam("limit"))\n        .with_for_update(skip_locked=True)\n        .cte("rows")\n    )\n    return (\n'
        "        update(m)\n        .where(m.c.seq.in_(select(rows.c.seq)), overdue)",
        '.limit(bindparam("limit"))\n        .cte("rows")\n    )\n    return (\n'
        "        update(m)\n        .where(m.c.seq.in_(select(rows.c.seq)))",
        _tests(f"{CONTRACT}/test_races.py", "two_redispatches_at_once_publish_a_row_once"),
        POSTGRESQL,
    ),
    Rule(
        "SQLite's write lock is taken when a transaction begins: one that reads first and then writes would fail at once.",
        f"{STORE}/sqlite.py",
        'exec_driver_sql("BEGIN IMMEDIATE")',
        'exec_driver_sql("BEGIN DEFERRED")',
        _tests(f"{CONTRACT}/test_connections.py", "an_applications_sqlite_engine_lends_its_address_and_nothing_else"),
        SQLITE,
    ),
    Rule(
        "Rows whose horizon passed are published again outside the cap: one that is full of lost messages cannot lock itself.",
        "outbox/relay.py",
        "                if pending.overdue:\n                    moved += self._redispatch(channel, report)\n"
        "                moved += self._claim(",
        "                moved += self._claim(",
        _tests(
            f"{LOOPS}/test_relay.py",
            "rows_whose_horizon_passed_are_published_again_with_the_same_lease_outside_the_cap",
        ),
        NEITHER,
    ),
    Rule(
        "The horizon of what is published again grows with the wait: hours without workers publish few copies.",
        f"{STORE}/claiming.py",
        "clamp(sql.now - row.next_attempt_at, SHORTEST_HORIZON_MS, LONGEST_HORIZON_MS)",
        "SHORTEST_HORIZON_MS",
        _tests(
            f"{CONTRACT}/test_claim.py",
            "what_is_published_again_may_wait_as_long_as_it_has_so_far_up_to_ten_minutes",
            "hours_without_workers_publish_a_bounded_number_of_copies",
        ),
    ),
    Rule(
        "That of a claim does not: one lost copy must not cost a key as long again as it has waited.",
        f"{STORE}/claiming.py",
        "lease_until=sql.now + SHORTEST_HORIZON_MS,",
        "lease_until=_horizon(sql, m.c),",
        _tests(
            f"{CONTRACT}/test_claim.py",
            "what_is_claimed_is_published_again_after_a_minute_however_long_it_has_waited_for_its_turn",
        ),
    ),
    Rule(
        "A row that a claim meets and may not dispatch is postponed out of the due index in the same transaction.",
        f"{STORE}/claiming.py",
        "    if until:\n        tx.execute_on(_set_postponed(",
        "    if False:\n        tx.execute_on(_set_postponed(",
        _tests(f"{CONTRACT}/test_claim.py", "invariant_12_a_hundred_rows_of_a_closed_destination_do_not_hide_a_ready_one"),
    ),
    Rule(
        "It is postponed until its destination opens as that stands now: what the relay has seen may be gone.",
        f"{STORE}/claiming.py",
        "{row.seq: until[row.target] for row in shut}",
        "{row.seq: closed[row.target] for row in shut}",
        _tests(
            f"{CONTRACT}/test_races_of_operators.py",
            "a_claim_that_meets_a_pause_which_is_being_taken_away_postpones_for_a_moment_only",
            "a_claim_postpones_until_the_last_gate_of_a_target_opens",
        ),
    ),
    Rule(
        "Whoever opens the destination waits for that claim, and then makes due what it has postponed.",
        f"{STORE}/pacing.py",
        "        .with_for_update(of=g, read=True, skip_locked=True)\n",
        "",
        _tests(
            f"{CONTRACT}/test_races_of_operators.py",
            "what_a_claim_postpones_for_a_pause_is_due_at_once_when_a_resume_has_waited_for_it",
            "what_a_claim_postpones_for_a_breaker_is_due_at_once_when_a_success_has_waited_for_it",
            "a_claim_that_meets_a_pause_which_is_being_taken_away_postpones_for_a_moment_only",
        ),
        POSTGRESQL,
    ),
    Rule(
        "Of two relays that see the same half-open destination one sends the probe.",
        f"{STORE}/pacing.py",
        "g.c.closed_until <= sql.now,",
        "g.c.closed_until.is_not(None),",
        (
            *_tests(f"{CONTRACT}/test_races.py", "two_claims_at_once_send_one_probe"),
            *_tests(f"{CONTRACT}/test_limits.py", "two_relays_that_see_the_same_half_open_target_send_one_probe"),
        ),
    ),
    Rule(
        "A second stamp waits for the first, so that no row gets its ordering key after a later one of that key.",
        f"{STORE}/arriving.py",
        ".with_for_update()",
        ".with_for_update(skip_locked=True)",
        _tests(f"{CONTRACT}/test_races.py", "a_second_stamp_waits_so_that_no_row_gets_its_key_after_a_later_one"),
        POSTGRESQL,
    ),
]

ORDER: Sequence[Rule] = [
    Rule(
        "The take looks again whether an earlier row of the key is active.",
        f"{STORE}/taking.py",
        "and_(none(ahead), or_(previous_id.is_not(None), none(busy)))",
        "or_(previous_id.is_not(None), none(busy))",
        _tests(
            f"{CONTRACT}/test_ordering.py",
            "a_follower_that_overtakes_its_head_in_the_broker_is_given_back",
            "while_the_head_waits_nothing_of_its_key_starts",
        ),
    ),
    Rule(
        "And whether any other row of the key, of any `seq`, is being sent.",
        f"{STORE}/taking.py",
        "and_(none(ahead), or_(previous_id.is_not(None), none(busy)))",
        "none(ahead)",
        _tests(f"{CONTRACT}/test_races.py", "t40_two_takes_of_two_rows_of_one_key_at_once_admit_one"),
        SQLITE,
    ),
    Rule(
        "Two takes of one key on PostgreSQL do not see each other: only who gets the lock on the key may take.",
        f"{STORE}/taking.py",
        "or_(m.c.ordering_key.is_(None), r.c.key_held == literal(1)),",
        "",
        _tests(f"{CONTRACT}/test_races.py", "t40_two_takes_of_two_rows_of_one_key_at_once_admit_one"),
        POSTGRESQL,
    ),
    Rule(
        "Rows of one key are taken together only where nothing of the key stands between them.",
        f"{STORE}/taking.py",
        "other.c.seq > since",
        "previous_id.is_(None)",
        _tests(f"{CONTRACT}/test_ordering.py", "rows_of_a_key_are_not_taken_together_past_one_that_stands_between_them"),
    ),
    Rule(
        "What was to follow a row that is not admitted is given back.",
        f"{STORE}/taking.py",
        "previous[message.id] is None or (before is not None and before.ordering_key == message.ordering_key)",
        "True",
        _tests(f"{CONTRACT}/test_ordering.py", "rows_behind_one_that_is_not_admitted_are_given_back_uncharged"),
    ),
    Rule(
        "And what was to follow a row of another key: only the first of its own has looked whether one is being sent.",
        f"{STORE}/taking.py",
        "before is not None and before.ordering_key == message.ordering_key",
        "before is not None",
        _tests(
            f"{CONTRACT}/test_ordering.py",
            "behind_a_row_of_another_key_under_one_name_nothing_starts_beside_one_that_is_being_sent",
        ),
    ),
    Rule(
        "A head's settle comes before its follower's take, in the same transaction or earlier.",
        f"{STORE}/sqlstore.py",
        "            settled = settling.settle(tx, settlements, log_successes=self._log_successes)\n"
        "            return settled, taking.take(tx, claims, taker)",
        "            taken = taking.take(tx, claims, taker)\n"
        "            return settling.settle(tx, settlements, log_successes=self._log_successes), taken",
        (
            *_tests(
                f"{CONTRACT}/test_races_of_outcomes.py",
                "a_late_success_of_the_head_and_a_take_of_its_follower_in_one_task_wait_for_the_rescue",
            ),
            *_tests(
                f"{CONTRACT}/test_ordering.py",
                "settle_of_a_head_and_take_of_its_follower_in_one_transaction_keep_the_chain_going",
            ),
        ),
    ),
    Rule(
        "A row that was never tried and is scheduled for the future does not block; one that was tried does.",
        f"{STORE}/conditions.py",
        "row.lease > literal(0), row.status",
        "row.status",
        _tests(f"{CONTRACT}/test_ordering.py", "a_head_postponed_for_its_destination_does"),
    ),
    Rule(
        "Only a claim that holds the earlier row marks the later one as blocked.",
        f"{STORE}/conditions.py",
        ".with_for_update(of=m, skip_locked=True)",
        "",
        _tests(
            f"{CONTRACT}/test_races_of_outcomes.py",
            "a_head_that_leaves_while_a_claim_marks_the_rows_behind_it_clears_the_mark",
        ),
        POSTGRESQL,
    ),
    Rule(
        "Once it holds that row, it looks again whether it still holds the later one back.",
        f"{STORE}/blocking.py",
        "if _holds_back(blocker, seq, status.get(blocker))}",
        "if True}",
        _tests(
            f"{CONTRACT}/test_races_of_outcomes.py",
            "a_claim_that_looked_before_the_head_left_marks_nothing_behind_it",
            "a_claim_that_looked_while_a_later_row_was_being_sent_marks_nothing_once_that_ended",
        ),
        POSTGRESQL,
    ),
    Rule(
        "A settle that makes room in its key clears the mark, after its own write.",
        f"{STORE}/settling.py",
        "unblocked = unblock(tx, gaps_left_by(written))",
        "unblocked = False",
        (
            *_tests(
                f"{CONTRACT}/test_races_of_outcomes.py",
                "a_head_that_leaves_while_a_claim_marks_the_rows_behind_it_clears_the_mark",
            ),
            *_tests(f"{CONTRACT}/test_blocked_marks.py", "a_settled_head_unblocks_the_next"),
        ),
    ),
    Rule(
        "A success that comes late does so too.",
        f"{STORE}/settling.py",
        "unblock(tx, gaps_left_by(written))",
        "unblock(tx, gaps_left_by(row for row in written if row.id not in late))",
        (
            *_tests(
                f"{CONTRACT}/test_races_of_outcomes.py",
                "a_head_that_leaves_while_a_claim_marks_the_rows_behind_it_clears_the_mark",
            ),
            *_tests(f"{CONTRACT}/test_blocked_marks.py", "a_late_success_of_a_parked_head_unblocks_the_next"),
        ),
    ),
    Rule(
        "So does an expiry.",
        f"{STORE}/sweeping.py",
        "    unblock(tx, gaps_left_by(rows))\n",
        "",
        (*_tests(f"{CONTRACT}/test_blocked_marks.py", "an_expired_head_unblocks_the_next"),),
    ),
    Rule(
        "So does a cancel.",
        f"{STORE}/operating.py",
        "    unblock(tx, gaps_left_by(changed))\n    return OperatorResult(_ids(changed), [*_refusals(rows, _cancel_refusal)",
        "    return OperatorResult(_ids(changed), [*_refusals(rows, _cancel_refusal)",
        _tests(f"{CONTRACT}/test_blocked_marks.py", "a_cancelled_head_unblocks_the_next"),
    ),
    Rule(
        "No more marks are cleared than up to the first row that is due.",
        f"{STORE}/blocking.py",
        "behind.c.seq <= func.coalesce(first_due, literal(LAST_SEQ)),",
        "",
        _tests(f"{CONTRACT}/test_blocked_marks.py", "no_more_rows_are_unblocked_than_may_go"),
    ),
    Rule(
        "A follower travels along only if it may still go once it is locked.",
        f"{STORE}/ordering.py",
        "if not tx.sql.dialect.locks_rows or not chosen:",
        "if True:",
        _tests(f"{CONTRACT}/test_races_of_outcomes.py", "a_follower_that_was_postponed_since_the_look_does_not_travel"),
        POSTGRESQL,
    ),
    Rule(
        "Mending passes over rows that a claim is dispatching.",
        f"{STORE}/blocking.py",
        '        .order_by(m.c.seq)\n        .with_for_update(skip_locked=True)\n        .cte("heads")',
        '        .order_by(m.c.seq)\n        .cte("heads")',
        _tests(f"{CONTRACT}/test_races_of_outcomes.py", "mend_passes_over_rows_that_a_claim_is_dispatching"),
        POSTGRESQL,
    ),
    Rule(
        "A head that fails for good keeps its key where the channel blocks.",
        "outbox/policy/retry.py",
        "elif policy.dead_head is DeadHead.BLOCK and message.ordering_key is not None:",
        "elif False:",
        _tests("tests/unit/test_retry_policy.py", "a_dead_head_that_blocks_is_parked_and_keeps_its_key"),
        NEITHER,
    ),
]

UPKEEP: Sequence[Rule] = [
    Rule(
        "A rescue passes over a row that is being settled.",
        f"{STORE}/sweeping.py",
        ".where(m.c.status == literal(Status.SENDING), m.c.lease_until < sql.now)\n"
        "        .order_by(m.c.lease_until, m.c.seq)\n"
        '        .limit(bindparam("limit"))\n        .with_for_update(skip_locked=True)',
        ".where(m.c.status == literal(Status.SENDING), m.c.lease_until < sql.now)\n"
        "        .order_by(m.c.lease_until, m.c.seq)\n"
        '        .limit(bindparam("limit"))',
        _tests(
            f"{CONTRACT}/test_races_of_outcomes.py",
            "a_rescue_passes_over_a_row_that_is_being_settled",
            "a_rescue_passes_over_a_row_whose_heartbeat_is_under_way",
        ),
        POSTGRESQL,
    ),
    Rule(
        "A parent brings back what its dead process held, by the owner's unique name, and nothing else.",
        f"{STORE}/sweeping.py",
        'm.c.lease_owner == bindparam("owner")',
        'bindparam("owner").is_not(None)',
        _tests(f"{CONTRACT}/test_sweeping.py", "what_a_dead_process_was_sending_is_rescued_at_once_and_nothing_else"),
    ),
    Rule(
        "It passes over what that process was settling or extending when it died: the database may be at it still.",
        f"{STORE}/sweeping.py",
        'm.c.lease_owner == bindparam("owner"))\n        .order_by(m.c.lease_until, m.c.seq)\n'
        '        .limit(bindparam("limit"))\n        .with_for_update(skip_locked=True)',
        'm.c.lease_owner == bindparam("owner"))\n        .order_by(m.c.lease_until, m.c.seq)\n'
        '        .limit(bindparam("limit"))',
        _tests(
            f"{CONTRACT}/test_races_of_late_outcomes.py",
            "the_parents_rescue_passes_over_a_row_that_is_being_settled",
            "the_parents_rescue_passes_over_a_row_whose_heartbeat_is_under_way_and_then_brings_it_back",
        ),
        POSTGRESQL,
    ),
    Rule(
        "A parent makes due again what its dead process claimed, may not have published, and nobody has taken.",
        f"{STORE}/claiming.py",
        "m.c.lease_until >= since)",
        "m.c.lease_until != since)",
        _tests(
            f"{CONTRACT}/test_sweeping.py",
            "what_a_dead_process_claimed_last_and_nobody_began_is_due_again_at_once",
        ),
    ),
    Rule(
        "Expiry, pruning, blanking and recalls lock the rows they mean, pass over those of others, and look again before they"
        " write.",
        f"{STORE}/conditions.py",
        '.limit(bindparam("limit")).with_for_update(skip_locked=True)\n    batch = rows.cte("batch")\n'
        "    return and_(m.c.seq.in_(select(batch.c.seq)), meant)",
        '.limit(bindparam("limit"))\n    batch = rows.cte("batch")\n    return m.c.seq.in_(select(batch.c.seq))',
        (
            *_tests(
                f"{CONTRACT}/test_races_of_outcomes.py",
                "a_recall_passes_over_a_row_that_is_being_taken",
                "a_prune_passes_over_a_row_that_is_being_replayed",
                "a_head_that_expires_after_a_claim_marked_the_rows_behind_it_clears_the_mark",
            ),
            *_tests(
                f"{CONTRACT}/test_races_of_late_outcomes.py",
                "an_expiry_passes_over_a_row_whose_late_success_is_being_recorded",
            ),
            *_tests(
                f"{CONTRACT}/test_races_of_operators.py",
                "a_blank_passes_over_a_row_that_is_being_replayed",
                "a_blank_passes_over_a_row_whose_late_success_is_being_recorded",
            ),
        ),
        POSTGRESQL,
    ),
    Rule(
        "An operator's action locks its rows first, and refuses what it then finds being sent.",
        f"{STORE}/operating.py",
        "_meant(tx, wanted, limit, able).with_for_update())",
        "_meant(tx, wanted, limit, able))",
        (
            *_tests(f"{CONTRACT}/test_races.py", "a_cancel_waits_for_a_take_and_is_refused"),
            *_tests(
                f"{CONTRACT}/test_races_of_operators.py",
                "a_replay_that_waits_for_a_blank_is_refused",
                "a_replay_of_all_that_is_parked_passes_by_what_turns_out_to_be_delivered",
                "a_resolve_that_waits_for_a_late_success_changes_nothing",
            ),
        ),
        POSTGRESQL,
    ),
    Rule(
        "It changes only what it has not refused: what was delivered meanwhile is not resolved, and so sent again.",
        f"{STORE}/operating.py",
        "if _resolve_refusal(row, sent=sent) is None]",
        "if True]",
        _tests(f"{CONTRACT}/test_races_of_operators.py", "a_resolve_that_waits_for_a_late_success_changes_nothing"),
    ),
    Rule(
        "Who closes what another has closed in the same moment writes over it.",
        f"{STORE}/gating.py",
        '            "closed_until": new.closed_until,\n            "reason": new.reason,\n            "actor": new.actor,\n',
        '            "closed_until": g.c.closed_until,\n',
        _tests(f"{CONTRACT}/test_races_of_operators.py", "of_two_pauses_at_once_the_later_stands"),
    ),
    Rule(
        "An upgrade stands as a whole or not at all, whatever rows there are and wherever its process dies.",
        f"{STORE}/migrating.py",
        "        _migrate(store, connection, revision or REVISIONS[-1])\n",
        '        _migrate(store, connection, revision or REVISIONS[-1])\n        connection.exec_driver_sql("commit")\n',
        _tests("tests/crash/test_upgrade.py", "a_process_killed_in_the_upgrade_leaves_all_of_it_or_nothing"),
    ),
    Rule(
        "Where writers run side by side, nothing is counted while an earlier commit may be missing.",
        f"{STORE}/tallying.py",
        "return sql.now - literal(LATE_COMMIT_MS) if sql.dialect.locks_rows else sql.now",
        "return sql.now",
        _tests(
            f"{CONTRACT}/test_tallying.py",
            "where_writers_run_side_by_side_nothing_is_counted_while_an_earlier_commit_may_be_missing",
        ),
        POSTGRESQL,
    ),
]

ENQUEUES: Sequence[Rule] = [
    Rule(
        "A second enqueue of a key waits for the first and then gets its message, which a single statement would not see.",
        f"{STORE}/enqueueing.py",
        "if existing is not None:",
        "if False:",
        _tests(f"{CONTRACT}/test_races.py", "a_second_enqueue_of_a_key_waits_for_the_first_and_gets_its_message"),
    ),
    Rule(
        "A key whose row goes between the two statements is tried again.",
        f"{STORE}/enqueueing.py",
        "_LOOKUPS = 3",
        "_LOOKUPS = 1",
        _tests(f"{CONTRACT}/test_races.py", "an_enqueue_of_a_key_whose_row_goes_between_its_two_looks_stands"),
        POSTGRESQL,
    ),
    Rule(
        "The keys of one transaction are inserted in one order, so that two with the same keys do not lock up.",
        f"{STORE}/enqueueing.py",
        "keyed = sorted((row for row in rows if row.idempotency_key is not None), key=_key)",
        "keyed = [row for row in rows if row.idempotency_key is not None]",
        _tests(f"{CONTRACT}/test_races.py", "the_same_keys_in_opposite_orders_do_not_lock_up"),
        POSTGRESQL,
    ),
    Rule(
        "Takes write their rows in one order.",
        f"{STORE}/taking.py",
        'key=itemgetter("id"))',
        "key=lambda _: 0)",
        _tests(f"{CONTRACT}/test_races.py", "takes_of_the_same_rows_in_opposite_orders_do_not_lock_up"),
        POSTGRESQL,
    ),
    Rule(
        "Settles write their rows in one order.",
        f"{STORE}/settling.py",
        'key=attrgetter("id"))',
        "key=lambda _: 0)",
        _tests(f"{CONTRACT}/test_races.py", "settles_of_the_same_rows_in_opposite_orders_do_not_lock_up"),
        POSTGRESQL,
    ),
    Rule(
        "A thread that the system refuses a wait for other processes leaves the queue of writers, as one that gave up does.",
        f"{STORE}/write_queue.py",
        "if not self._has_come:",
        "if self._is_given_up:",
        _tests(f"{CONTRACT}/test_write_queue.py", "who_is_refused_a_lock_for_fear_of_a_deadlock_is_not_waited_for"),
        NEITHER,
    ),
    Rule(
        "Sends that waited for a connection while it failed for another share its failure: in turn they would outlive their"
        " timeout without a try.",
        "outbox/integrations/celery/publishing.py",
        "if asked_at <= self._failed_at:",
        "if False:",
        _tests(
            "tests/integration/celery/test_durable_tasks_publishing.py",
            "those_who_wait_for_a_connection_that_fails_share_its_failure",
        ),
        NEITHER,
    ),
    Rule(
        "What PostgreSQL ends for a deadlock is run again: each verb is fenced, so that this is harmless.",
        f"{STORE}/driver_errors.py",
        "error.connection_invalidated or _sqlstate(error) in _DEADLOCK",
        "error.connection_invalidated",
        _tests(f"{CONTRACT}/test_concurrency.py", "a_deadlock_is_run_again_and_not_told"),
        POSTGRESQL,
    ),
    Rule(
        "So is what lost its connection.",
        f"{STORE}/driver_errors.py",
        "error.connection_invalidated or _sqlstate(error) in _DEADLOCK",
        "_sqlstate(error) in _DEADLOCK",
        _tests(f"{CONTRACT}/test_concurrency.py", "a_connection_that_the_server_closed_is_replaced"),
        POSTGRESQL,
    ),
    Rule(
        "No connection crosses a fork: the child's store leaves those of its parent alone.",
        f"{STORE}/sqlstore.py",
        "        self.engine.dispose(close=False)\n",
        "        return\n",
        _tests(f"{CONTRACT}/test_connections.py", "a_child_process_forgets_its_parents_connections"),
    ),
    Rule(
        "An outbox sees to that itself, in every process that is forked from its own.",
        "outbox/outbox.py",
        "            here.store.after_fork()\n",
        "",
        _tests("tests/integration/test_forked.py", "a_child_uses_no_connection_of_its_parent"),
    ),
    Rule(
        "Nor does an outcome: the parent records what it kept, and no child of it.",
        "outbox/outbox.py",
        "            here.delivery = here.delivery.in_child()\n",
        "",
        _tests("tests/integration/test_forked.py", "a_child_has_no_outcome_of_its_parent_to_record"),
    ),
]

BATCHES: Sequence[Rule] = [
    Rule(
        "Rows are taken in windows of the channel's concurrency, when their send is about to begin.",
        "outbox/delivery_loop.py",
        "self._line.take_up(self._free_slots())",
        "self._line.take_up(1_000)",
        _tests(f"{LOOPS}/test_delivery.py", "a_kill_leaves_at_most_the_channels_concurrency_of_unknown_outcomes"),
        NEITHER,
    ),
    Rule(
        "A row whose outcome is unknown travels alone: a poison message drags no neighbour along.",
        "outbox/batching.py",
        "together[0].alone or parts[-1][0].alone or ",
        "",
        _tests(f"{LOOPS}/test_relay.py", "an_unknown_outcome_travels_alone"),
        NEITHER,
    ),
    Rule(
        "When a row of a key is not delivered, those behind it are released uncharged.",
        "outbox/delivery_loop.py",
        "            self._unwritten.give_back(self._line.leave_behind(job.message.id))\n            self._withdraw(",
        "            self._line.follow(job.message.id)\n            self._withdraw(",
        _tests(f"{LOOPS}/test_delivery.py", "followers_of_a_head_that_is_not_delivered_are_released_uncharged"),
        NEITHER,
    ),
    Rule(
        "A group of outcomes that fails by anything but a lock or a connection is settled row by row.",
        "outbox/recording.py",
        "            settled = self._settle_one_by_one(settlements)\n",
        "            raise\n",
        _tests(f"{LOOPS}/test_recording.py", "an_error_text_that_the_database_refuses_spoils_no_neighbour"),
        POSTGRESQL,
    ),
    Rule(
        "A process that holds an outcome which is not on record begins nothing new.",
        "outbox/recording.py",
        "self._settle_and_take([*kept, *ended], claims, taker)",
        "self._settle_and_take(ended, claims, taker)",
        _tests(
            f"{LOOPS}/test_recording.py",
            "a_process_that_holds_an_outcome_begins_nothing_new",
            "what_is_being_recorded_in_the_background_is_on_record_before_anything_new_begins",
        ),
        NEITHER,
    ),
    Rule(
        "An interrupted task records what it has gathered before it leaves.",
        "outbox/delivery_loop.py",
        "        if ended := self._unwritten.take_ended():\n            self._means.recorder.record(ended)\n",
        "",
        _tests(f"{LOOPS}/test_recording.py", "an_interrupted_task_records_the_group_that_it_has_gathered"),
        NEITHER,
    ),
    Rule(
        "What could not be recorded so far is recorded when the process ends.",
        "outbox/recording.py",
        "if not self._kept.wait(timeout_s):",
        "if not timeout_s:",
        _tests(
            f"{LOOPS}/test_recording.py",
            "what_was_kept_is_recorded_at_the_close",
            "an_interruption_in_the_midst_of_a_settle_loses_no_outcome",
        ),
        NEITHER,
    ),
    Rule(
        "After a commit whose answer was lost the rows are read again, before a lease is counted as lost.",
        "outbox/recording.py",
        "settled, refusal = self._read_again([*kept, *ended], settled)",
        "refusal = OutboxError()",
        _tests(
            f"{LOOPS}/test_recording.py",
            "invariant_7_a_commit_that_took_effect_and_lost_its_answer_is_no_lost_lease",
        ),
        NEITHER,
    ),
    Rule(
        "What has not begun when the task's budget is spent is released.",
        "outbox/delivery_loop.py",
        "return self._stopping or time.monotonic() >= self._stop_at",
        "return self._stopping",
        _tests(f"{LOOPS}/test_delivery.py", "r18_what_has_not_begun_when_the_budget_is_spent_is_released_uncharged"),
        NEITHER,
    ),
    Rule(
        "What was taken while the task came to its end is released, too.",
        "outbox/delivery_loop.py",
        "        if self._is_time_to_end():  # by now: the take may have waited for a database that is locked\n"
        "            self._give_back_the_rest()\n            return\n",
        "",
        _tests(f"{LOOPS}/test_delivery.py", "what_was_taken_while_the_task_came_to_its_end_is_not_begun"),
        NEITHER,
    ),
    Rule(
        "A heartbeat that misses forbids further sends of its row.",
        "outbox/leases.py",
        "return set() if still_held is None else {message.id for message in messages} - still_held",
        "return set()",
        _tests(f"{LOOPS}/test_delivery.py", "a_heartbeat_that_misses_forbids_the_send"),
        NEITHER,
    ),
]

ASIDE: Sequence[Rule] = [
    Rule(
        "All that a process sends for a channel shares what its slots would have sent, whoever has stepped aside.",
        "outbox/delivery.py",
        "room = None if slot is None else partial(self._room, channel, slot)",
        "room = None",
        _tests(
            f"{LOOPS}/test_aside.py",
            "beside_one_that_begins_nothing_more_only_as_much_is_sent_as_there_is_room",
        ),
        NEITHER,
    ),
    Rule(
        "A second copy of what stands in its line takes no part.",
        "outbox/delivery_loop.py",
        "            if here.get(claim.id, -1) >= claim.lease:\n                continue\n",
        "",
        _tests(f"{LOOPS}/test_aside.py", "a_second_copy_of_what_goes_on_is_not_sent_again"),
        NEITHER,
    ),
    Rule(
        "The keys of a task are its own: those of one that joins are told apart from them.",
        "outbox/delivery_loop.py",
        'ordering_key=f"{self._batches}.{key}"',
        "ordering_key=key",
        _tests(f"{LOOPS}/test_aside.py", "the_keys_of_two_tasks_are_not_taken_for_one"),
        NEITHER,
    ),
    Rule(
        "A loop that hangs on its database is given nothing more.",
        "outbox/delivery_loop.py",
        " or time.monotonic() - self._came_round_at > _DEAF_S",
        "",
        _tests(f"{LOOPS}/test_aside.py", "nothing_is_given_to_a_loop_that_hangs_on_its_database"),
        NEITHER,
    ),
    Rule(
        "Who joins does so before the loop has found itself over, or not at all.",
        "outbox/inbox.py",
        "            self._is_closed = not self._claims\n",
        "            self._is_closed = True\n",
        _tests(f"{LOOPS}/test_aside.py", "who_joins_at_the_last_moment_is_not_left_behind"),
        NEITHER,
    ),
    Rule(
        "A message whose last process died during its send has the next one for itself.",
        "outbox/integrations/celery/install.py",
        "slot=None if suspect or batch.is_suspect else slot()",
        "slot=slot()",
        _tests(
            "tests/integration/celery/test_making_way.py",
            "a_message_that_may_have_killed_its_process_has_the_next_one_for_itself",
        ),
        NEITHER,
    ),
    Rule(
        "A pool process that dies between two tasks is missed, and what went on in it is brought back.",
        "outbox/integrations/celery/undertaker.py",
        "            self.bury(pid)\n",
        "            del pid\n",
        _tests(
            "tests/integration/celery/test_making_way.py",
            "what_went_on_aside_in_a_process_that_dies_is_brought_back_at_once",
        ),
        NEITHER,
    ),
    Rule(
        "What a task had claimed by itself is due again at once when its process dies, however long ago it stepped aside.",
        "outbox/integrations/celery/undertaker.py",
        "claiming = [began_at, *(task.began_at for task in aside if task.has_claimed)]",
        "claiming = [began_at]",
        _tests(
            "tests/integration/celery/test_making_way.py",
            "what_a_task_that_went_on_aside_had_claimed_by_itself_is_brought_back_at_once",
        ),
        NEITHER,
    ),
]

ENDS: Sequence[Rule] = [
    Rule(
        "What was taken while the outbox is closed is not begun, and given back.",
        "outbox/senders.py",
        "            if not self._is_closed:\n                return self._begin(channel, trains)\n",
        "            return self._begin(channel, trains)\n",
        (
            *_tests("tests/unit/test_senders.py", "what_is_started_after_the_close_comes_back_as_not_begun"),
            *_tests(
                f"{LOOPS}/test_unruly_adapters.py", "a_task_that_has_taken_a_message_when_its_outbox_is_closed_sends_nothing"
            ),
        ),
        NEITHER,
    ),
    Rule(
        "A process that ends in good order has its outcomes recorded first.",
        "outbox/delivery.py",
        "            self.recorder.close(timeout_s)\n",
        "            del timeout_s\n",
        _tests(f"{LOOPS}/test_recording.py", "what_was_kept_is_recorded_when_the_process_ends_in_good_order"),
        NEITHER,
    ),
    Rule(
        "A worker has its outcomes recorded when its pool's tasks have ended, and not before.",
        "outbox/integrations/celery/lifetime.py",
        "            worker.steps.sort(key=lambda step: step is not self)\n",
        "",
        _tests("tests/unit/test_ending_worker.py", "a_worker_finishes_when_its_pool_has_stopped"),
        NEITHER,
    ),
]

RULES: Mapping[str, Sequence[Rule]] = {
    "Fences": FENCES,
    "Time": TIME,
    "Back-pressure": PRESSURE,
    "Order within a key": ORDER,
    "Maintenance and operators": UPKEEP,
    "Enqueues and locks": ENQUEUES,
    "Delivery in batches": BATCHES,
    "Tasks that step aside": ASIDE,
    "The end of a process": ENDS,
}
