"""The bugs that the suite must find: one small change of the server each.

To add one, copy an entry: `old` must stand in its file exactly once, and `test` is
the one that should find the bug. `holds` are tests of docs/guarantees.md: each of them
must find it too, as the bug breaks what they hold. A test that starts the program in an
environment without PYTHONPATH finds none there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: `old`, in a file of the server's package, becomes `new`."""

    name: str
    file: str  # below server/healthomics_gateway
    old: str
    new: str
    test: str  # below tests
    holds: tuple[str, ...] = ()  # below tests

    @property
    def tests(self) -> tuple[str, ...]:
        """All tests that must find it."""
        return self.test, *self.holds


MUTANTS = (
    # What the client is told.
    Mutant(
        "throttle-has-another-code",
        "errors.py",
        "UPSTREAM_THROTTLED = Row(\n        code.RESOURCE_EXHAUSTED,",
        "UPSTREAM_THROTTLED = Row(\n        code.UNAVAILABLE,",
        "test_errors.py::test_code_answers_what_the_caller_should_do",
        holds=("rpc/test_errors.py::test_error_of_the_seed_has_its_row",),
    ),
    Mutant(
        "quota-is-worth-another-try",
        "errors.py",
        "UPSTREAM_QUOTA_EXCEEDED = Row(\n"
        "        code.RESOURCE_EXHAUSTED,\n"
        "        Advice.STOP,",
        "UPSTREAM_QUOTA_EXCEEDED = Row(\n"
        "        code.RESOURCE_EXHAUSTED,\n"
        "        Advice.RETRY,",
        "contract/test_errors_doc.py::test_row_tells_code_details_and_advice",
    ),
    Mutant(
        "never-again-is-a-wait",
        "errors.py",
        "            return -1\n",
        "            return MAX_RETRY_MS\n",
        "test_errors.py::test_pushback_is_retry_info_or_never",
    ),
    Mutant(
        "aws-words-are-always-told",
        "errors.py",
        "if debug and error.debug:",
        "if error.debug:",
        "test_errors.py::test_debug_text_stays_inside_unless_it_is_let_out",
    ),
    Mutant(
        "metadata-is-told-as-it-came",
        "errors.py",
        "{key: _clean(value, MAX_TEXT) for",
        "{key: value for",
        "test_errors.py::test_metadata_is_cleaned_and_cut",
        holds=("test_errors.py::test_status_is_short_and_printable_whatever_is_told",),
    ),
    Mutant(
        "cancelled-call-is-a-bug",
        "interceptors/errors.py",
        "            except (AbortError, asyncio.CancelledError):\n"
        "                raise\n",
        "            except AbortError:\n"
        "                raise\n"
        "            except asyncio.CancelledError as error:\n"
        "                failure = _of_exception(error, exchange)\n"
        "                return await _abort(failure, exchange, debug=debug)\n",
        "test_interceptors.py::test_cancelled_call_is_logged_as_such",
    ),
    Mutant(
        "abort-is-a-bug",
        "interceptors/errors.py",
        "except (AbortError, asyncio.CancelledError):",
        "except asyncio.CancelledError:",
        "test_interceptors.py::test_status_of_a_standard_service_is_its_own",
    ),
    Mutant(
        "request-id-is-taken-unchecked",
        "interceptors/exchange.py",
        "\n            and _REQUEST_ID.fullmatch(value)",
        "",
        "test_interceptors.py::test_request_id_is_made_up_where_there_is_no_good_one",
    ),
    # What is asked.
    Mutant(
        "id-may-have-a-tail",
        "requests.py",
        "if not _RUN_ID.fullmatch(run_id):",
        "if not _RUN_ID.match(run_id):",
        "test_service.py::test_id_of_another_form_is_refused",
        holds=(
            "rpc/test_errors.py::test_bad_request_asks_nothing_of_healthomics",
            "faults/test_ids.py::test_id_that_is_none_is_refused",
        ),
    ),
    Mutant(
        "id-may-have-any-script-s-digits",
        "requests.py",
        '_RUN_ID = re.compile(r"[0-9]{1,18}")',
        '_RUN_ID = re.compile(r"\\d{1,18}")',
        "test_service.py::test_id_of_another_form_is_refused",
    ),
    Mutant(
        "export-is-asked-for-as-often-as-it-is-written",
        "service.py",
        "tuple(sorted(set(request.export)))",
        "tuple(sorted(request.export))",
        "test_service.py::test_export_is_asked_for_once",
    ),
    Mutant(
        "healthomics-is-asked-without-time",
        "service.py",
        "facts.set(call.facts)\n        if seconds < MIN_DEADLINE_SECONDS:",
        "facts.set(call.facts)\n        if seconds < 0:",
        "test_service.py::test_deadline_that_leaves_no_time_is_refused_unasked",
    ),
    Mutant(
        "bad-bytes-are-an-empty-request",
        "interceptors/chain.py",
        "raise GatewayError(Reason.MALFORMED_REQUEST) from None",
        'return handler.request_deserializer(b"")',
        "test_interceptors.py::test_request_that_does_not_decode_is_malformed",
    ),
    # How often, and for how long.
    Mutant(
        "one-attempt-too-many",
        "retry.py",
        "attempt >= self._max_attempts",
        "attempt > self._max_attempts",
        "test_retry.py::test_last_failure_stands_when_the_attempts_are_used_up",
        holds=(
            "faults/test_sharing.py::test_crowd_shares_a_failure",
            "faults/test_aws_errors.py::test_error_that_may_pass_is_asked_for_three_times",
        ),
    ),
    Mutant(
        "retry-beyond-the-deadline",
        "retry.py",
        "                    or earliest_end > call.deadline\n",
        "",
        "test_retry.py::test_last_failure_stands_when_no_time_is_left",
    ),
    Mutant(
        "retries-never-run-out",
        "retry.py",
        "        self._in_hand -= 1\n",
        "",
        "test_retry.py::test_dead_upstream_sees_few_more_calls_than_callers_make",
        holds=(
            "faults/test_outage.py::test_outage_sees_few_calls_beyond_those_of_the_callers",
        ),
    ),
    Mutant(
        "aws-may-ask-for-any-wait",
        "retry.py",
        "min(max(asked, computed), computed + RETRY_AFTER_BEYOND_SECONDS)",
        "max(asked, computed)",
        "test_retry.py::test_wait_that_aws_asks_for_is_honoured_within_bounds",
    ),
    Mutant(
        "throttle-waits-no-longer",
        "retry.py",
        "throttled = error.reason is Reason.UPSTREAM_THROTTLED",
        "throttled = False",
        "test_retry.py::test_waits_after_throttling_begin_at_a_second",
    ),
    Mutant(
        "any-number-is-asked-at-once",
        "places.py",
        "        self.free -= 1",
        "        self.free -= 0",
        "test_places.py::test_no_more_is_asked_at_once_than_there_are_places",
    ),
    Mutant(
        "drain-refuses-at-once",
        "interceptors/drain.py",
        "        await self._quiet(until=end - seconds * LAST_CALLS_SHARE)\n",
        "",
        "test_drain.py::test_drain_serves_a_call_that_still_comes",
    ),
    # What is trusted on the way.
    Mutant(
        "body-is-capped-by-the-chunk",
        "upstream/transport.py",
        "if len(body) > self._max_body_bytes:",
        "if len(chunk) > self._max_body_bytes:",
        "test_transport.py::test_body_that_is_not_to_be_had_is_a_failure",
    ),
    Mutant(
        "redirect-is-followed",
        "upstream/transport.py",
        "allow_redirects=False",
        "allow_redirects=True",
        "test_transport.py::test_redirects_are_not_followed",
    ),
    Mutant(
        "any-certificate-is-trusted",
        "upstream/transport.py",
        "    context.load_verify_locations(ca_file)\n",
        "    context.check_hostname = False\n    context.verify_mode = ssl.CERT_NONE\n",
        "test_transport.py::test_untrusted_certificate_is_sent_nothing",
    ),
    Mutant(
        "certificate-of-any-host-is-trusted",
        "upstream/transport.py",
        "    context.load_verify_locations(ca_file)\n",
        "    context.load_verify_locations(ca_file)\n"
        "    context.check_hostname = False\n",
        "test_transport.py::test_untrusted_certificate_is_sent_nothing",
    ),
    Mutant(
        "new-connection-that-is-lost-is-replayed",
        "upstream/transport.py",
        "if journey.is_connection_new:",
        "if not journey.is_connection_new:",
        "test_transport.py::test_new_connection_that_closes_is_not_replayed",
    ),
    Mutant(
        "compressed-body-is-read",
        "upstream/transport.py",
        'if encoding not in ("", "identity"):',
        'if encoding not in ("", "identity", "gzip"):',
        "test_transport.py::test_body_that_is_not_to_be_had_is_a_failure",
    ),
    Mutant(
        "compression-is-welcome",
        "upstream/healthomics.py",
        '        headers["accept-encoding"] = "identity"\n',
        "",
        "test_healthomics.py::test_request_is_signed_as_it_is_sent",
    ),
    Mutant(
        "bare-404-is-no-run",
        "upstream/classify.py",
        "bare = {408: _TIMED_OUT, 429: _THROTTLED}",
        "bare = {\n"
        "            404: Verdict(Reason.RUN_NOT_FOUND, Again.NO),\n"
        "            408: _TIMED_OUT,\n"
        "            429: _THROTTLED,\n"
        "        }",
        "test_classify.py::test_body_without_a_code_leaves_it_to_the_status",
        holds=(
            "rpc/test_errors.py::test_page_of_a_proxy_is_not_healthomics_word",
            "faults/test_proxies.py::test_page_of_a_proxy_is_judged_by_its_status_alone",
        ),
    ),
    Mutant(
        "untrusted-certificate-is-tried-again",
        "upstream/classify.py",
        "Verdict(Reason.UPSTREAM_TLS_UNTRUSTED, Again.NO)",
        "Verdict(Reason.UPSTREAM_TLS_UNTRUSTED, Again.YES)",
        "test_classify.py::test_failure_is_its_row_with_and_without_an_answer",
    ),
    Mutant(
        "body-beats-the-header",
        "upstream/classify.py",
        "code = code or bare_code(members.get(name))",
        "code = bare_code(members.get(name)) or code",
        "test_classify.py::test_header_beats_the_body",
    ),
    # Whose identity it is.
    Mutant(
        "credentials-are-renewed-for-each-caller",
        "upstream/identity.py",
        "        if self._credentials == refused:\n            self._source = None",
        "        if self._credentials:\n            self._source = None",
        "test_identity.py::test_renewal_reads_the_chain_once_for_all_who_were_refused",
        holds=(
            "faults/test_credentials.py::test_credentials_that_expire_in_flight_are_renewed_once",
        ),
    ),
    Mutant(
        "callers-each-read-the-chain",
        "upstream/identity.py",
        "if self._refresh is None or self._refresh.done():",
        "if self._refresh is None or self._credentials is None:",
        "test_identity.py::test_callers_at_once_share_one_read",
    ),
    Mutant(
        "clock-s-offset-is-never-dropped",
        "upstream/clock.py",
        "return skew if abs(skew) >= MIN_SKEW else NO_SKEW",
        "return skew if abs(skew) >= MIN_SKEW else self.skew",
        "test_healthomics.py::test_offset_is_dropped_when_the_clock_is_set_right",
        holds=(
            "faults/test_clock.py::test_offset_is_dropped_when_the_clock_is_right_again",
        ),
    ),
    Mutant(
        "secret-key-is-shown",
        "upstream/sigv4.py",
        "secret_key: str = field(repr=False)",
        "secret_key: str",
        "test_sigv4.py::test_secrets_are_not_shown",
    ),
    Mutant(
        "health-stays-up",
        "health.py",
        "SERVICE: not self._readiness.why_not,",
        "SERVICE: True,",
        "test_health.py::test_health_of_the_service_is_readiness",
    ),
    Mutant(
        "health-change-is-missed",
        "readiness.py",
        "            changed.set()\n",
        "",
        "test_health.py::test_health_is_kept_at_every_change",
    ),
    Mutant(
        "keys-are-not-waited-for",
        "app.py",
        "fault=self._keyring.fault, why=unread)",
        "fault=self._keyring.fault)",
        "test_app.py::test_gateway_is_unready_until_keys_were_read_once",
    ),
    Mutant(
        "task-that-fails-stays-dead",
        "supervision.py",
        "            if failure is None:\n",
        "            if True:\n",
        "test_supervision.py::test_task_that_fails_runs_again_later_and_later",
    ),
    Mutant(
        "failed-task-is-not-shown",
        "app.py",
        "            fault_of_task=self._background.fault,\n",
        "",
        "test_app.py::test_task_that_fails_is_a_fault_of_its_part",
    ),
    Mutant(
        "admin-connections-pile-up",
        "admin.py",
        "[: -self._most]",
        "[:0]",
        "test_health.py::test_admin_cuts_the_oldest_connection_for_one_too_many",
    ),
    Mutant(
        "admin-connection-idles-for-ever",
        "admin.py",
        "loop.call_later(self._seconds, transport.abort)",
        "loop.call_later(self._seconds, lambda: None)",
        "test_health.py::test_admin_connection_has_a_time_limit",
    ),
    Mutant(
        "livez-stays-up",
        "admin.py",
        "        if self._readiness.is_dead:\n",
        "        if False:\n",
        "test_health.py::test_livez_fails_once_no_new_call_can_reach_the_gateway",
        holds=("rpc/test_shutdown.py::test_gateway_whose_accept_loop_ends_says_so",),
    ),
    Mutant(
        "end-of-the-accept-loop-goes-unnoticed",
        "app.py",
        "        self._liveness.watch(accept_loops() - others)\n",
        "",
        "rpc/test_shutdown.py"
        "::test_process_whose_accept_loop_ends_makes_room_for_another",
    ),
    Mutant(
        "busy-listener-counts-as-dead",
        "liveness.py",
        "if has_failed and self._accepted() == accepted:",
        "if has_failed:",
        "test_liveness.py"
        "::test_listener_that_answers_no_call_is_dead_unless_others_come_in",
    ),
    Mutant(
        "blocked-process-lives-on",
        "process.py",
        "            self._end_in(self._end_seconds)\n",
        "",
        "rpc/test_shutdown.py::test_process_whose_event_loop_is_blocked_ends_by_force",
    ),
    Mutant(
        "second-signal-changes-nothing",
        "process.py",
        "call_soon_threadsafe(self.second.set)",
        "call_soon_threadsafe(self.first.set)",
        "rpc/test_drain.py::test_second_signal_ends_the_drain",
    ),
    # What an answer says.
    Mutant(
        "answer-about-another-run-is-given",
        "upstream/translate.py",
        'if type(sent.get("id")) is not str or sent["id"] != run_id:',
        'if type(sent.get("id")) is not str:',
        "test_translate.py::test_answer_about_another_run_is_refused",
        holds=(
            "rpc/test_errors.py::test_success_that_is_none_is_never_ok",
            "faults/test_members.py::test_answer_about_another_run_is_never_delivered",
        ),
    ),
    Mutant(
        "error-in-a-success-is-a-run",
        "upstream/translate.py",
        "if type(error_type) is str and bare_code(error_type):",
        'if error_type == "Error":',
        "test_translate.py::test_error_in_an_answer_is_told",
    ),
    Mutant(
        "times-end-at-the-millisecond",
        "upstream/jsontext.py",
        'int((fraction or "").ljust(9, "0"))',
        'int((fraction or "")[:3].ljust(9, "0"))',
        "test_translate.py::test_timestamp_is_typed_with_up_to_nine_digits",
        holds=(
            "faults/test_members.py::test_timestamp_is_an_instant_or_kept",
            "test_differential.py::test_answers_are_rebuilt",
        ),
    ),
    Mutant(
        "integer-beyond-2-to-the-53-is-typed",
        "upstream/jsontext.py",
        "SAFE_DIGITS = 15 ",
        "SAFE_DIGITS = 17 ",
        "test_jsontext.py::test_exact_double_refuses_what_a_double_would_change",
        holds=(
            "faults/test_documents.py::test_document_is_exact_or_kept_as_its_text",
            "test_fuzz.py::test_corpus_breaks_no_promise",
        ),
    ),
    Mutant(
        "unknown-member-is-dropped",
        "upstream/fields.py",
        "        if value is None:\n            continue",
        "        if value is None or name not in puts:\n            continue",
        "test_translate.py::test_member_that_has_no_field_for_it_is_kept",
        holds=(
            "rpc/test_answers.py::test_answer_keeps_what_the_contract_does_not_know",
            "test_differential.py::test_answers_are_rebuilt",
        ),
    ),
    Mutant(
        "unknown-word-is-dropped",
        "upstream/fields.py",
        'raise ValueError("not a word of the enum")',
        "return ()",
        "test_translate.py::test_member_that_has_no_field_for_it_is_kept",
    ),
    Mutant(
        "answer-has-no-time",
        "upstream/healthomics.py",
        "        time.seconds = since.days * 86400 + since.seconds\n",
        "",
        "test_healthomics.py::test_answer_is_the_run_and_when_it_was_read",
    ),
    Mutant(
        "mask-leaves-out-the-time",
        "selection.py",
        "        selected.observe_time.CopyFrom(run.observe_time)\n",
        "",
        "test_selection.py::test_observe_time_is_always_answered",
        holds=("rpc/test_answers.py::test_mask_selects_fields_and_their_kept_text",),
    ),
    Mutant(
        "withheld-member-comes-back",
        "selection.py",
        "if self.paths is None and not self.withheld:",
        "if self.paths is None:",
        "test_selection.py::test_withholding_leaves_out_typed_and_kept_members_alike",
        holds=("rpc/test_answers.py::test_withheld_members_reach_nobody",),
    ),
    Mutant(
        "withheld-member-is-left-where-its-structure-is-none",
        "selection.py",
        'return member == name.partition(".")[0] or _is_within(member, name)',
        "return _is_within(member, name)",
        "test_selection.py"
        "::test_withheld_member_is_answered_in_no_shape_that_aws_may_send",
    ),
    Mutant(
        "withheld-part-of-a-document-is-left-in-it",
        "selection.py",
        "known = name if structure in _STRUCTURES else structure",
        "known = name",
        "test_selection.py"
        "::test_withheld_member_is_answered_in_no_shape_that_aws_may_send",
    ),
    # What callers share, and what they leave each other.
    Mutant(
        "crowd-joins-a-fetch-that-was-sent",
        "coalesce.py",
        "            self._sent[fetch.query] = self._open.pop(fetch.query)",
        "            self._sent[fetch.query] = self._open[fetch.query]",
        "test_coalesce.py::test_answer_was_asked_for_after_its_caller_came",
    ),
    Mutant(
        "next-fetch-does-not-wait-for-the-former",
        "coalesce.py",
        "            if former and former.task:",
        "            if False and former and former.task:",
        "test_coalesce.py::test_no_run_has_more_than_one_fetch_under_way",
    ),
    Mutant(
        "first-who-leaves-takes-the-fetch-along",
        "coalesce.py",
        "        if not fetch.waiting and fetch.task and not fetch.task.done():",
        "        if fetch.task and not fetch.task.done():",
        "test_coalesce.py::test_who_leaves_costs_the_others_nothing",
        holds=("faults/test_sharing.py::test_who_leaves_a_crowd_harms_nobody",),
    ),
    Mutant(
        "last-who-leaves-leaves-the-fetch",
        "coalesce.py",
        "            fetch.task.cancel()",
        "            pass",
        "test_coalesce.py::test_last_who_leaves_ends_the_fetch",
        holds=("rpc/test_deadlines.py::test_cancelled_call_stops_the_upstream_call",),
    ),
    Mutant(
        "memory-is-as-old-as-it-likes",
        "coalesce.py",
        "self._clock() - remembered.at <= max_staleness_seconds",
        "self._clock() - remembered.at >= 0",
        "test_coalesce.py::test_memory_answers_who_allows_for_it",
    ),
    Mutant(
        "run-that-is-gone-stays-in-memory",
        "coalesce.py",
        "                self._memory.pop(query, None)\n",
        "                pass\n",
        "test_coalesce.py::test_run_that_is_gone_is_forgotten",
    ),
    Mutant(
        "joiner-is-not-refused",
        "coalesce.py",
        "        if self._clock() + wait > call.deadline:",
        "        if fetch is None and self._clock() + wait > call.deadline:",
        "test_coalesce.py::test_joiner_whose_turn_comes_too_late_is_refused_at_once",
    ),
    Mutant(
        "staleness-has-no-bound",
        "service.py",
        "return min(seconds, self._max_staleness_limit_seconds)",
        "return seconds",
        "rpc/test_answers.py::test_operator_sets_how_old_answers_may_be",
    ),
    Mutant(
        "fresh-is-as-old-as-the-default",
        "service.py",
        'if not request.HasField("max_staleness"):',
        "if not seconds_of(request.max_staleness):",
        "rpc/test_answers.py::test_operator_sets_how_old_answers_may_be",
    ),
    Mutant(
        "burst-has-no-end",
        "bucket.py",
        "self.turns = min(self.turns + tokens, self._burst)",
        "self.turns = self.turns + tokens",
        "test_pace.py::test_no_second_sees_more_than_rate_and_burst",
    ),
    Mutant(
        "each-throttle-cuts-the-rate",
        "bucket.py",
        "if self._filled - self._cut >= CUT_EVERY_SECONDS:",
        "if True:",
        "test_pace.py::test_throttle_cuts_the_rate_once_a_second",
    ),
    Mutant(
        "throttle-is-not-heeded",
        "pace.py",
        "                pacer.throttled()\n",
        "                pass\n",
        "test_pace.py::test_source_slows_down_for_throttles_alone",
    ),
    Mutant(
        "first-come-first-served",
        "fairness.py",
        "        return self._last.get(caller.name, 0), self._last.get(caller, 0)",
        "        return 0, 0",
        "test_pace.py::test_callers_take_turns",
    ),
    Mutant(
        "polls-wait-for-every-call",
        "fairness.py",
        "        is_poll = self._poll_credit >= 1\n",
        "        is_poll = False\n",
        "test_pace.py::test_polls_get_their_share_while_calls_wait_too",
    ),
    Mutant(
        "token-is-taken-without-time",
        "pacer.py",
        "        if self._clock() + wait > call.deadline:",
        "        if False:",
        "test_pace.py::test_call_whose_turn_comes_too_late_is_refused_at_once",
    ),
    Mutant(
        "requests-leave-whenever-they-can",
        "bucket.py",
        "        if not self.waiting and self._bucket.departures >= WHOLE:",
        "        if True:",
        "test_quota.py::test_rate_holds_after_connections_have_stalled",
    ),
    Mutant(
        "gateway-has-no-gate",
        "app.py",
        "                depart=self._pacers.depart,\n",
        "",
        "faults/test_sharing.py::test_replays_count_towards_the_rate",
    ),
    Mutant(
        "turn-needs-no-place",
        "pacer.py",
        " and self._places.free and not ",
        " and not ",
        "test_quota.py::test_rate_holds_after_healthomics_has_stalled",
    ),
    Mutant(
        "turn-is-spent-before-the-credentials-come",
        "pace.py",
        "            await session.ready()\n        begun =",
        "            pass\n        begun =",
        "test_quota.py::test_rate_holds_after_slow_credentials",
    ),
    Mutant(
        "replay-needs-no-token",
        "upstream/transport.py",
        "        if depart and not _is_lost(conn):",
        "        if depart and _journey.get().is_connection_new:",
        "test_transport.py::test_replay_leaves_when_it_may_too",
    ),
    Mutant(
        "throttle-leaves-what-is-on-its-way",
        "bucket.py",
        "            self.departures = min(self.departures, 0.0)\n",
        "",
        "test_quota.py::test_throttle_slows_down_what_is_on_its_way_too",
    ),
    Mutant(
        "turn-of-who-leaves-is-lost",
        "pacer.py",
        "                self._give_back()\n",
        "                pass\n",
        "test_quota.py::test_call_that_leaves_as_its_turn_comes_gives_it_back",
    ),
    Mutant(
        "places-are-one-account-s",
        "places.py",
        "            queue = next(iter(self._queues))",
        "            queue = next(reversed(self._queues))",
        "test_places.py::test_accounts_take_turns_in_places",
    ),
    Mutant(
        "watch-says-the-same-twice",
        "watch.py",
        "                if digest != self._digest:",
        "                if True:",
        "test_watch.py::test_change_that_its_caller_does_not_see_sends_nothing",
    ),
    Mutant(
        "watch-goes-on-after-the-end",
        "watch.py",
        "                self._is_done = state.run.status in TERMINAL\n",
        "",
        "test_watch.py::test_watch_of_a_run_that_has_ended_is_one_state",
    ),
    Mutant(
        "cancelled-is-not-the-end",
        "poll.py",
        "        RunStatus.RUN_STATUS_CANCELLED,\n",
        "",
        "test_watch.py::test_watch_of_a_run_that_has_ended_is_one_state",
    ),
    Mutant(
        "new-run-is-taken-for-the-old",
        "watch.py",
        "if self._uuid and run.uuid and run.uuid != self._uuid:",
        "if False:",
        "test_watch.py::test_another_run_under_the_id_ends_a_watch",
    ),
    Mutant(
        "throttle-ends-a-watch",
        "poll.py",
        "if error.reason.value.advice is Advice.STOP:",
        "if error.reason.value.advice is not Advice.RETRY:",
        "test_watch.py::test_failure_that_may_pass_does_not_end_a_watch",
    ),
    Mutant(
        "polls-outlive-their-watchers",
        "poll.py",
        "        if not self._readers:\n            self._end()\n",
        "        if not self._readers:\n",
        "test_watch.py::test_last_who_leaves_ends_the_polls",
    ),
    Mutant(
        "slow-watcher-gets-every-state",
        "poll.py",
        "        return untaken[1 - MAX_UNTAKEN :]",
        "        return untaken",
        "test_watch.py::test_slow_watcher_gets_the_newest_and_holds_up_nobody",
    ),
    Mutant(
        "watch-polls-as-often-as-it-is-asked-to",
        "service.py",
        "        return max(seconds, self._min_interval_seconds) if seconds else None",
        "        return seconds or None",
        "faults/test_watching.py::test_watch_does_not_poll_sooner_than_the_operator_lets_it",
    ),
    # Who calls: tokens.
    Mutant(
        "audience-is-not-checked",
        "tokens.py",
        "            and not self._audiences.isdisjoint(audiences)\n",
        "",
        "test_tokens.py::test_claim_that_is_wrong_is_refused",
    ),
    Mutant(
        "issuer-is-not-checked",
        "tokens.py",
        'return bool(claims.get("iss") == self._issuer)',
        "return True",
        "test_tokens.py::test_claim_that_is_wrong_is_refused",
    ),
    Mutant(
        "expired-token-passes",
        "tokens.py",
        '            raise _refused("exp", Reason.TOKEN_EXPIRED)\n',
        "",
        "test_tokens.py::test_token_that_has_expired_is_told_so",
    ),
    Mutant(
        "token-without-an-end-never-expires",
        "tokens.py",
        '_time(claims, "exp")',
        '_time(claims, "exp", MAX_TIME)',
        "test_tokens.py::test_claim_that_is_wrong_is_refused",
    ),
    Mutant(
        "token-of-tomorrow-passes",
        "tokens.py",
        'for name in ("nbf", "iat"):',
        'for name in ("iat",):',
        "test_tokens.py::test_claim_that_is_wrong_is_refused",
    ),
    Mutant(
        "token-may-name-nobody",
        "tokens.py",
        "        or claim == ANONYMOUS\n",
        "",
        "test_tokens.py::test_claim_that_is_wrong_is_refused",
    ),
    Mutant(
        "list-of-algorithms-is-not-looked-at",
        "tokens.py",
        "if not isinstance(alg, str) or alg not in self._algorithms:",
        "if not isinstance(alg, str):",
        "test_tokens.py::test_token_of_each_algorithm_needs_it_to_be_allowed",
        holds=("test_tokens.py::test_token_without_signature_is_refused",),
    ),
    Mutant(
        "key-of-another-kind-verifies",
        "jwks.py",
        "fitting = [key for key in keys if alg in key.algorithms]",
        "fitting = list(keys)",
        "test_keys.py::test_key_verifies_only_the_algorithm_that_it_names",
    ),
    Mutant(
        "key-s-own-algorithm-is-overlooked",
        "jwks.py",
        'algorithms = (jwk["alg"],) if "alg" in jwk else kind.algorithms',
        "algorithms = kind.algorithms",
        "test_tokens.py::test_algorithm_is_the_keys_own",
    ),
    Mutant(
        "last-token-of-two-counts",
        "tokens.py",
        "only = values[0] if len(values) == 1 else None",
        "only = values[-1]",
        "test_tokens.py::test_metadata_that_is_malformed_is_refused",
    ),
    Mutant(
        "remembered-token-outlives-its-expiry",
        "tokens.py",
        "        if self._now() >= proof.credential.until:\n"
        "            self._proofs.pop(digest, None)\n"
        '            raise _refused("exp", Reason.TOKEN_EXPIRED)\n',
        "            elif self._now() >= proof.credential.until:\n"
        "                self._proofs.pop(digest, None)\n"
        "                raise GatewayError(Reason.TOKEN_EXPIRED)\n",
        "test_tokens.py::test_remembered_token_expires",
    ),
    Mutant(
        "remembered-token-outlives-its-key",
        "tokens.py",
        "if proof is None or not self._keys.holds(proof.key):",
        "if proof is None:",
        "test_tokens.py::test_remembered_token_is_refused_when_its_key_is_withdrawn",
    ),
    Mutant(
        "unknown-kid-causes-a-read-each-time",
        "keys.py",
        "                self._unknown_due_at = now + UNKNOWN_PAUSE_SECONDS\n",
        "",
        "test_keys.py::test_unknown_kids_cause_one_read",
    ),
    Mutant(
        "keys-that-cannot-be-read-replace-the-good",
        "keys.py",
        "            self._fail(error)\n",
        "            self._set = None\n            self._fail(error)\n",
        "test_keys.py::test_read_that_fails_keeps_the_keys",
    ),
    Mutant(
        "keys-come-from-where-a-redirect-leads",
        "keysource.py",
        "allow_redirects=False",
        "allow_redirects=True",
        "test_keys.py::test_url_that_redirects_is_not_followed",
    ),
    Mutant(
        "keys-come-in-plaintext-from-elsewhere",
        "keysource.py",
        'if parts.scheme == "https" or (',
        'if parts.scheme in ("https", "http") or (',
        "test_keys.py::test_url_that_others_could_answer_has_a_fault",
    ),
    Mutant(
        "files-are-read-in-the-threads-of-the-loop",
        "keysource.py",
        'partial(OneAtATime("jwks-file").run, partial(_read_file, path))',
        'partial(__import__("asyncio").to_thread, _read_file, path)',
        "test_keys.py::test_file_that_hangs_uses_one_thread",
    ),
    Mutant(
        "token-without-issuer-is-of-any-spiffe-domain",
        "tokens.py",
        "return domain is not None and domain == self._issuer",
        "return domain is not None",
        "test_tokens.py::test_token_without_issuer_is_of_a_spiffe_domain",
    ),
    Mutant(
        "any-key-verifies-a-token-without-issuer",
        "tokens.py",
        'if "iss" in claims or key.use != SVID_USE:',
        'if "iss" in claims:',
        "test_tokens.py::test_token_without_issuer_is_of_a_spiffe_domain",
    ),
    Mutant(
        "watch-outlasts-its-token",
        "interceptors/expire.py",
        "            self._end(task, Reason.TOKEN_EXPIRED)\n",
        "            pass\n",
        "test_expire.py::test_call_ends_when_its_first_credential_expires",
        ("rpc/test_rules.py::test_watch_ends_with_its_token",),
    ),
    Mutant(
        "watch-outlasts-the-key-of-its-token",
        "keys.py",
        "        self._notify()\n",
        "",
        "rpc/test_rules.py::test_watch_ends_with_the_key_of_its_token",
    ),
    # Who calls: certificates, and who shows nothing.
    Mutant(
        "certificate-beats-the-token",
        "interceptors/authenticate.py",
        "        if certified and told and certified.identity != told.identity:\n"
        "            raise GatewayError(Reason.TOKEN_INVALID)\n",
        "",
        "rpc/test_rules.py::test_caller_that_shows_both_is_the_same_by_both",
    ),
    Mutant(
        "expired-certificate-passes-on-its-connection",
        "identities.py",
        "        if now > named.until:\n"
        "            raise GatewayError(Reason.TOKEN_EXPIRED)\n",
        "",
        "test_identities.py::test_certificate_outlived_by_its_connection_is_refused",
    ),
    Mutant(
        "first-of-two-spiffe-ids-counts",
        "identities.py",
        "is_one = len(uris) == 1 and is_spiffe_id",
        "is_one = is_spiffe_id",
        "test_identities.py::test_certificate_that_names_nobody_is_refused",
    ),
    Mutant(
        "session-outlives-its-certificate",
        "front.py",
        "if self._now() > until:",
        "if False:",
        "test_front.py::test_resumed_session_ends_with_its_certificate",
    ),
    Mutant(
        "expired-certificate-is-served",
        "certificates.py",
        "        yield from _faults_of_dates(leaf, now)\n",
        "",
        "test_tls.py::test_expired_certificate_is_a_fault",
    ),
    Mutant(
        "half-written-chain-is-served",
        "certificates.py",
        "        if _is_cut(contents.chain):\n",
        "        if False:\n",
        "test_tls.py::test_half_written_chain_is_a_fault",
    ),
    Mutant(
        "bad-certificate-replaces-the-good",
        "tls.py",
        "self._take(self._served, error.args)",
        "self._take(self._served, ())",
        "test_tls.py::test_fault_is_told_until_it_is_mended",
    ),
    Mutant(
        "authority-of-clients-is-not-replaced",
        "tls.py",
        "if self._files.read() == self._served.contents:",
        "if self._files.read()[:2] == self._served.contents[:2]:",
        "test_tls.py::test_authority_of_clients_is_replaced",
    ),
    Mutant(
        "admin-page-does-not-tell-a-bad-certificate",
        "app.py",
        'self._readiness.add("certificate", fault=lambda: self._door.fault)',
        'self._readiness.add("certificate")',
        "test_app.py::test_certificate_that_is_spoilt_is_told_and_serves_on",
    ),
    Mutant(
        "nobody-is-let-in-beside-tokens",
        "server.py",
        "lets_in_anonymous=policy.knows(ANONYMOUS) if rules else by_token is None,",
        "lets_in_anonymous=not rules or policy.knows(ANONYMOUS),",
        "rpc/test_rules.py::test_caller_without_proof_needs_a_rule_of_its_own",
    ),
    Mutant(
        "strangers-are-told-at-once",
        "server.py",
        "    outer = (*outer, Refusals().stage)\n",
        "",
        "rpc/test_rules.py::test_flood_of_strangers_is_refused_at_a_bounded_rate",
    ),
    Mutant(
        "refused-token-is-no-stranger-s",
        "interceptors/refuse.py",
        "                if error.reason not in PACED:\n                    raise\n",
        "                raise\n",
        "rpc/test_rules.py::test_flood_of_strangers_is_refused_at_a_bounded_rate",
    ),
    # What callers can't take from one another.
    Mutant(
        "calls-take-their-places-before-they-are-known",
        "server.py",
        '*(*outer, *guard("GetRun"), admission.stage),',
        '*(*outer, admission.stage, *guard("GetRun")),',
        "rpc/test_overload.py::test_tokens_of_unknown_keys_take_no_place",
    ),
    Mutant(
        "caller-that-comes-first-keeps-every-place",
        "interceptors/admit.py",
        "if self._shares.held_by(name) < share:",
        "if self._shares.held_by(name) < 0:",
        "test_admit.py"
        "::test_caller_takes_the_place_of_one_that_holds_more_than_its_share",
        holds=("rpc/test_overload.py::test_caller_gets_its_share_of_the_places",),
    ),
    Mutant(
        "oldest-call-is-evicted",
        "interceptors/admit.py",
        "task = next(reversed(self._calls[name]))",
        "task = next(iter(self._calls[name]))",
        "test_admit.py"
        "::test_caller_takes_the_place_of_one_that_holds_more_than_its_share",
    ),
    Mutant(
        "evicted-call-holds-a-place",
        "interceptors/evict.py",
        "            task.uncancel()\n            raise error from None\n",
        "            return\n",
        "test_admit.py::test_newcomers_take_from_whoever_holds_most",
    ),
    Mutant(
        "health-streams-have-no-bound",
        "server.py",
        "open_ = (*outer[1:], standard.stage)",
        "open_ = (*outer[1:],)",
        "rpc/test_overload.py::test_health_streams_of_a_connection_are_bounded",
    ),
    Mutant(
        "loopback-addresses-are-callers",
        "interceptors/exchange.py",
        'LOOPBACK if host.startswith("127.") else host',
        "host",
        "test_exchange.py"
        "::test_caller_without_identity_is_named_by_what_it_cannot_choose",
        holds=("rpc/test_overload.py::test_loopback_addresses_share_one_limit",),
    ),
    Mutant(
        "connections-of-a-host-do-not-share-its-streams",
        "interceptors/admit.py",
        "        elif self._max_per_connection < inf:\n"
        "            evicted = self._shares.take_beside(peer, name)\n",
        "",
        "test_admit.py::test_connections_of_a_caller_share_its_places",
    ),
    Mutant(
        "call-that-may-not-wait-for-keys-is-rejected-at-once",
        "interceptors/refuse.py",
        "        Reason.AUTH_BACKEND_UNAVAILABLE,\n",
        "",
        "test_refuse.py::test_rejections_of_callers_are_paced",
    ),
    Mutant(
        "calls-that-wait-for-keys-have-no-bound",
        "keys.py",
        "            or waiting[host] >= MAX_WAITING_OF_HOST\n",
        "",
        "test_keys.py::test_calls_that_wait_for_a_read_are_bounded",
    ),
    Mutant(
        "calls-are-charged-to-nobody",
        "service.py",
        "            begun + seconds,\n            caller=caller.get(),\n",
        "            begun + seconds,\n",
        "rpc/test_overload.py::test_scanner_delays_no_other_identity",
    ),
    Mutant(
        "deadline-is-as-long-as-it-likes",
        "service.py",
        "seconds = min(own_seconds, self._max_deadline_seconds)",
        "seconds = own_seconds",
        "test_service.py::test_call_ends_at_its_deadline",
    ),
    # What they may.
    Mutant(
        "identity-is-compared-by-its-start",
        "access.py",
        "            return identity == self.identity\n",
        "            return identity.startswith(self.identity)\n",
        "test_access.py::test_rule_is_about_whom_it_names",
    ),
    Mutant(
        "star-stands-for-nobody-too",
        "access.py",
        "return is_longer and identity != ANONYMOUS",
        "return is_longer",
        "test_access.py::test_rule_is_about_whom_it_names",
    ),
    Mutant(
        "last-rule-about-a-caller-decides",
        "access.py",
        "return next((each for each in self._rules if",
        "return next((each for each in self._rules[::-1] if",
        "test_access.py::test_first_rule_about_a_caller_decides",
    ),
    Mutant(
        "who-is-in-no-rule-may-everything",
        "access.py",
        "if each.matches(identity)), NOTHING)",
        "if each.matches(identity)), EVERYTHING)",
        "test_access.py::test_who_is_in_no_rule_may_nothing",
    ),
    Mutant(
        "rule-s-methods-are-not-looked-at",
        "access.py",
        "if method not in found.rule.methods:",
        "if not found.rule.methods:",
        "test_access.py::test_first_rule_about_a_caller_decides",
    ),
    Mutant(
        "any-tag-of-a-rule-will-do",
        "access.py",
        "return all(run.tags.get(key)",
        "return not tags or any(run.tags.get(key)",
        "test_access.py::test_caller_sees_the_runs_of_its_rule",
    ),
    Mutant(
        "tag-that-is-missing-is-empty",
        "access.py",
        "run.tags.get(key) == value",
        'run.tags.get(key, "") == value',
        "test_access.py::test_caller_sees_the_runs_of_its_rule",
    ),
    Mutant(
        "run-of-no-group-is-everyone-s",
        "access.py",
        "if groups is not None and run.run_group_id not in groups:",
        'if groups is not None and run.run_group_id not in {*groups, ""}:',
        "test_access.py::test_caller_sees_the_runs_of_its_rule",
    ),
    Mutant(
        "bound-caller-is-told-that-there-is-no-run",
        "access.py",
        "        Reason.RUN_NOT_FOUND,\n",
        "",
        "test_access.py::test_every_verdict_on_a_run_is_hidden",
    ),
    Mutant(
        "refusal-tells-what-aws-has-said",
        "interceptors/errors.py",
        'told = {key: told[key] for key in ("runId",) if key in told}',
        "told = exchange.facts",
        "rpc/test_rules.py::test_run_that_is_not_allowed_and_run_that_is_not_there_look_the_same",
    ),
    Mutant(
        "refusal-carries-aws-request-id",
        "interceptors/errors.py",
        "*trailing_ids(exchange, told),",
        "*trailing_ids(exchange, exchange.facts),",
        "rpc/test_rules.py::test_run_that_is_not_allowed_and_run_that_is_not_there_look_the_same",
    ),
    Mutant(
        "refusal-is-made-from-memory",
        "service.py",
        "        if answer is None or not allowed.sees(answer.run):\n",
        "        if answer:\n            allowed.check(answer.run)\n        else:\n",
        "rpc/test_rules.py::test_memory_answers_a_bound_caller_with_what_it_may_see",
    ),
    Mutant(
        "memory-is-open-to-every-caller",
        "service.py",
        "if answer is None or not allowed.sees(answer.run):",
        "if answer is None:",
        "rpc/test_rules.py::test_memory_answers_a_bound_caller_with_what_it_may_see",
    ),
    Mutant(
        "refusal-is-told-as-soon-as-it-is-known",
        "service.py",
        "await asyncio.sleep(step - (self._clock() - begun) % step)",
        "await asyncio.sleep(0)",
        "test_service.py::test_refusal_of_a_run_leaves_at_a_multiple_of_a_time",
    ),
    Mutant(
        "refusal-waits-for-a-time-that-shows-the-run",
        "service.py",
        "await asyncio.sleep(step - (self._clock() - begun) % step)",
        "await asyncio.sleep(step)",
        "test_service.py::test_refusal_of_a_run_leaves_at_a_multiple_of_a_time",
    ),
    Mutant(
        "answer-is-not-held-to-the-rule",
        "service.py",
        "                allowed.check(answer.run)\n",
        "",
        "rpc/test_rules.py::test_shared_fetch_reaches_only_those_who_may_see_it",
    ),
    Mutant(
        "bound-watch-begins-with-what-others-saw",
        "service.py",
        "        if allowed.is_bound:\n",
        "        if False:\n",
        "rpc/test_rules.py::test_bound_watch_begins_with_a_fetch_of_its_own",
    ),
    Mutant(
        "watched-states-are-not-held-to-the-rule",
        "watch.py",
        "                if not self._allows(state.run):\n"
        "                    raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)\n",
        "",
        "rpc/test_rules.py::test_watched_run_that_leaves_the_group_is_seen_no_more",
    ),
    Mutant(
        "rule-withholds-nothing-without-a-mask",
        "service.py",
        "Selection(withheld=self._withheld | withheld)",
        "Selection(withheld=self._withheld)",
        "rpc/test_rules.py::test_tags_and_withheld_members_are_the_rules_own",
    ),
    Mutant(
        "mask-brings-back-what-a-rule-withholds",
        "service.py",
        "return Selection(asked, self._withheld | withheld)",
        "return Selection(asked, self._withheld)",
        "rpc/test_rules.py::test_tags_and_withheld_members_are_the_rules_own",
    ),
    Mutant(
        "selection-of-one-rule-is-everyone-s",
        "service.py",
        "            whole = self._whole.get(withheld)\n",
        "            whole = next(iter(self._whole.values()), None)\n",
        "rpc/test_rules.py::test_tags_and_withheld_members_are_the_rules_own",
    ),
    Mutant(
        "closed-service-is-open-to-every-caller",
        "server.py",
        "        if name not in open_services:\n",
        "        if False:\n",
        "rpc/test_rules.py::test_service_that_is_not_open_is_for_those_whom_a_rule_lets_in",
    ),
    Mutant(
        "reflection-is-open-elsewhere-too",
        "settings.py",
        'update={"open_services": frozenset({"Health"})}',
        'update={"open_services": settings.open_services}',
        "test_settings.py::test_reflection_is_open_on_loopback_only",
    ),
    # What each may have for itself.
    Mutant(
        "callers-of-a-rule-share-its-limits",
        "interceptors/limit.py",
        "name, allowed = caller.get().name, access.get()",
        "allowed = access.get()\n            name = allowed.rule.identity",
        "test_limits.py::test_calls_at_a_time_are_each_callers_own",
    ),
    Mutant(
        "callers-of-a-host-share-their-limits",
        "interceptors/authorize.py",
        "            if identity != ANONYMOUS:\n"
        "                caller.set(Caller(identity, exchange.peer))\n",
        "",
        "rpc/test_rules.py::test_each_caller_has_its_own_limits",
        holds=(
            "rpc/test_overload.py::test_caller_gets_its_share_of_the_places",
            "rpc/test_overload.py::test_scanner_delays_no_other_identity",
        ),
    ),
    Mutant(
        "ended-call-stays-inside",
        "interceptors/limit.py",
        "                inside[name] -= 1\n",
        "",
        "test_limits.py::test_calls_at_a_time_are_each_callers_own",
    ),
    Mutant(
        "failed-call-stays-inside",
        "interceptors/limit.py",
        "            try:\n"
        "                return await proceed(incoming, exchange)\n"
        "            finally:\n"
        "                inside[name] -= 1\n"
        "                if not inside[name]:\n"
        "                    del inside[name]\n",
        "            answer = await proceed(incoming, exchange)\n"
        "            inside[name] -= 1\n"
        "            if not inside[name]:\n"
        "                del inside[name]\n"
        "            return answer\n",
        "test_limits.py::test_call_that_fails_makes_room",
    ),
    Mutant(
        "watches-count-as-calls",
        "interceptors/limit.py",
        "proceed, self._watches, lambda",
        "proceed, self._calls, lambda",
        "test_limits.py::test_watches_are_counted_apart_from_calls",
    ),
    Mutant(
        "refused-call-uses-up-the-rate",
        "interceptors/limit.py",
        "            if most is not None and inside[name] >= most:\n"
        "                raise limited(0.5 + self._jitter())\n"
        "            if rule.calls_per_second is not None:\n"
        "                self._take(name, allowed)\n",
        "            if rule.calls_per_second is not None:\n"
        "                self._take(name, allowed)\n"
        "            if most is not None and inside[name] >= most:\n"
        "                raise limited(0.5 + self._jitter())\n",
        "test_limits.py::test_refused_call_takes_nothing",
    ),
    # As whom AWS is asked.
    Mutant(
        "call-is-made-as-the-gateway",
        "service.py",
        "query = RunQuery(request.id, export, allowed.partition)",
        "query = RunQuery(request.id, export)",
        "rpc/test_rules.py::test_call_and_watch_are_made_as_the_caller_s_role",
    ),
    Mutant(
        "watch-is-made-as-the-gateway",
        "service.py",
        "query = RunQuery(request.id, partition=allowed.partition)",
        "query = RunQuery(request.id)",
        "rpc/test_rules.py::test_call_and_watch_are_made_as_the_caller_s_role",
    ),
    Mutant(
        "fetches-cross-partitions",
        "runs.py",
        "partition: Partition = OWN",
        "partition: Partition = field(default=OWN, compare=False)",
        "test_coalesce.py::test_no_fetch_and_no_memory_crosses_partitions",
    ),
    Mutant(
        "callers-of-a-role-share-a-session",
        "access.py",
        "return Partition(role, self.identity) if role else OWN",
        "return Partition(role) if role else OWN",
        "test_access.py::test_partition_is_the_role_and_whom_it_is_assumed_for",
        holds=(
            "faults/test_roles.py::test_each_caller_s_session_is_of_its_role_and_name",
        ),
    ),
    Mutant(
        "one-session-is-every-caller-s",
        "upstream/roles.py",
        "        session = self._recent.get(partition) or self._used.get(partition)\n",
        "        session = next(iter(self._used.values()), None)\n",
        "test_roles.py::test_session_that_was_used_longest_ago_goes",
    ),
    Mutant(
        "place-is-held-while-credentials-are-renewed",
        "upstream/healthomics.py",
        "            self._learn(error, reply, credentials, skew)\n",
        "            self._learn(error, reply, credentials, skew)\n"
        "            await error.fix() if error.fix else None\n",
        "faults/test_roles.py"
        "::test_session_that_is_renewed_slowly_holds_up_nobody_else",
    ),
    Mutant(
        "session-that-nobody-waits-for-is-asked-for",
        "upstream/identity.py",
        "            if not (self._waiting or self._is_reading or self._looks_out):",
        "            if False:",
        "faults/test_roles.py::test_crowd_that_left_a_stalled_sts_leaves_little_behind",
    ),
    Mutant(
        "sts-has-any-number-of-threads",
        "threads.py",
        "asyncio.Semaphore(number)",
        "asyncio.Semaphore(1024)",
        "test_threads.py::test_no_more_threads_run_than_there_may_be",
    ),
    Mutant(
        "large-answer-waits-for-others-work",
        "upstream/healthomics.py",
        "run_in_executor(_readers, ",
        "run_in_executor(None, ",
        "test_healthomics.py::test_large_answer_is_read_where_others_work_hangs",
    ),
    Mutant(
        "session-s-name-has-no-digest",
        "upstream/sts.py",
        "[: MAX_NAME - len(suffix)] + suffix",
        "[:MAX_NAME]",
        "test_roles.py::test_name_stays_readable",
        holds=("test_roles.py::test_two_identities_never_share_a_name",),
    ),
    Mutant(
        "name-with-a-digest-is-taken-as-it-is",
        "upstream/sts.py",
        "if _NAME.fullmatch(identity) and not _DIGEST.search(identity):",
        "if _NAME.fullmatch(identity):",
        "test_roles.py::test_name_stays_readable",
    ),
    Mutant(
        "session-is-renewed-too-late",
        "upstream/sts.py",
        "ahead = EARLY if seconds is None",
        "ahead = timedelta(0) if seconds is None",
        "test_roles.py::test_session_is_renewed_a_quarter_of_an_hour_early",
    ),
    Mutant(
        "role-s-quota-is-not-its-account-s",
        "pace.py",
        "pacer = self._of_account.get(account) or self._make()",
        "pacer = self._make()",
        "test_pace.py::test_roles_of_one_account_share_one_bucket",
    ),
    Mutant(
        "readiness-hears-of-sessions",
        "upstream/healthomics.py",
        "            report=lambda _: None,\n",
        "            report=self._report,\n",
        "test_roles.py::test_readiness_hears_of_the_own_identity_alone",
    ),
    # What is told of callers, and of their secrets.
    Mutant(
        "metadata-is-logged",
        "interceptors/observe.py",
        "        peer=exchange.peer,\n",
        "        peer=exchange.peer,\n"
        "        metadata=exchange.context.invocation_metadata(),\n",
        "test_interceptors.py::test_answered_call_is_logged_once",
    ),
    Mutant(
        "audit-follows-the-log-s-level",
        "interceptors/observe.py",
        "structlog.make_filtering_bound_logger(logging.NOTSET)",
        "structlog.make_filtering_bound_logger(logging.ERROR)",
        "test_app.py::test_call_is_audited_whatever_the_log_s_level",
    ),
    Mutant(
        "flood-leaves-calls-out-of-the-audit",
        "telemetry.py",
        "Cap(uncapped=frozenset({AUDIT}))",
        "Cap()",
        "test_telemetry.py::test_audit_is_left_out_of_no_flood",
    ),
    Mutant(
        "audit-shares-the-bound-of-other-lines",
        "log_writer.py",
        "self._audit if is_audit else self._other)",
        "self._other)",
        "test_log_writer.py::"
        "test_reader_that_stalls_costs_lines_that_are_counted_by_kind",
    ),
    Mutant(
        "audit-s-lines-are-queued-as-others",
        "telemetry.py",
        "is_audit=is_audit)",
        "is_audit=False)",
        "test_telemetry.py::test_audit_waits_apart_from_other_lines",
    ),
    Mutant(
        "audit-does-not-know-what-is-hidden",
        "access.py",
        'known = {**error.metadata, "hides": error.reason.name}',
        "known = error.metadata",
        "rpc/test_rules.py::test_log_knows_what_the_caller_is_not_told",
    ),
    Mutant(
        "token-is-sent-in-plaintext-elsewhere",
        "channel.py",
        "IPv4Address(host).is_loopback",
        "IPv4Address(host).is_private",
        "test_channel.py::test_token_is_not_sent_in_plaintext_elsewhere",
    ),
    Mutant(
        "token-file-is-sent-wherever-it-is-asked",
        "channel.py",
        'if "token_file" in given and not (is_tls or is_near(address)):',
        "if False:",
        "test_channel.py::test_token_is_not_sent_in_plaintext_elsewhere",
    ),
    Mutant(
        "session-s-secret-is-shown",
        "upstream/sts.py",
        "    secret_key: str = field(repr=False)\n",
        "    secret_key: str\n",
        "test_roles.py::test_session_is_renewed_a_quarter_of_an_hour_early",
    ),
    # What an operator reads.
    Mutant(
        "fault-repeats-what-was-set",
        "sources.py",
        '**error.get("ctx", {})})\n',
        '**error.get("ctx", {})}) + f": {error[\'input\']}"\n',
        "test_settings.py::test_fault_does_not_repeat_what_was_set",
    ),
    Mutant(
        "empty-text-is-none",
        "kinds.py",
        "if is_optional and value is None:",
        'if is_optional and value in ("", None):',
        "test_settings.py::test_empty_text_is_a_fault_and_sets_nothing",
    ),
    Mutant(
        "empty-entry-of-a-list-is-left-out",
        "kinds.py",
        "found = [each.strip() for each in found]",
        "found = [each.strip() for each in found if each.strip()]",
        "test_settings.py::test_list_of_other_than_names_is_refused",
    ),
    Mutant(
        "number-is-a-boolean",
        "kinds.py",
        "Switch = Annotated[bool, Field(strict=True)]",
        "Switch = bool",
        "test_settings.py::test_value_of_another_type_is_a_fault",
    ),
    Mutant(
        "any-port-is-kubernetes",
        "variables.py",
        '_OF_SERVICE.fullmatch(f"{name.removeprefix(service)}={value}")',
        '"_PORT" in name',
        "test_variables.py::test_misspelt_setting_is_told_beside_a_service",
    ),
    Mutant(
        "setting-s-file-may-be-a-pipe",
        "settings.py",
        "os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY",
        "os.O_RDONLY | os.O_NOCTTY",
        "test_settings.py::test_file_that_is_no_regular_file_is_a_fault",
    ),
    Mutant(
        "pattern-may-leave-the-trust-domain-open",
        "access.py",
        '    if is_uri and "/" not in rest:',
        "    if is_uri and not rest:",
        "test_access.py::test_pattern_that_matches_more_than_it_seems_to_is_known",
    ),
    Mutant(
        "stream-that-a-proxy-ends-is-not-resumed",
        "failure.py",
        "        if not self.is_of_gateway:\n"
        "            return self.code in CUT_CODES or RESET in self.message\n",
        "",
        "test_client.py::test_watch_resumes_after_a_stream_that_a_proxy_ends",
    ),
    Mutant(
        "gateway-s-last-word-is-asked-for-again",
        "failure.py",
        "is_of_gateway=info.domain == DOMAIN,",
        "is_of_gateway=False,",
        "test_client.py::test_watch_ends_by_what_does_not_pass",
    ),
    Mutant(
        "heartbeat-is-a-state",
        "client.py",
        "                    continue  # a heartbeat\n",
        "                    pass\n",
        "test_client.py::test_watch_asks_for_heartbeats_and_does_not_show_them",
    ),
    Mutant(
        "watch-of-an-unknown-end-is-a-success",
        "client.py",
        "return ENDINGS.get(run.status, FAILED)",
        "return ENDINGS.get(run.status, DONE)",
        "test_client.py::test_watch_of_a_withheld_status_ends_with_the_stream",
    ),
    Mutant(
        "whole-number-is-what-python-makes-of-it",
        "show.py",
        "return int(Decimal(repr(value)))",
        "return int(value)",
        "test_show.py::test_whole_number_of_a_document_is_an_integer_in_json",
    ),
    Mutant(
        "event-takes-many-lines",
        "log_lines.py",
        "option=orjson.OPT_UTC_Z",
        "option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2",
        "test_telemetry.py::test_event_of_two_lines_is_one_line_of_json",
    ),
    Mutant(
        "lines-wait-without-a-bound",
        "log_writer.py",
        "if self.held_bytes + size > self.max_bytes:",
        "if False:",
        "test_log_writer.py::"
        "test_reader_that_stalls_costs_lines_that_are_counted_by_kind",
    ),
    Mutant(
        "lost-lines-are-forgotten",
        "log_writer.py",
        "if not (lost or is_stalled):",
        "if not is_stalled:",
        "test_log_writer.py::"
        "test_reader_that_stalls_costs_lines_that_are_counted_by_kind",
    ),
    Mutant(
        "log-s-faults-are-not-told",
        "process.py",
        'parts={"log": log.fault}',
        "parts={}",
        "faults/test_log.py::test_stderr_that_takes_nothing_holds_up_nothing",
    ),
    Mutant(
        "terminal-obeys-callers",
        "log_lines.py",
        "return value if value.isprintable() else _Shown(repr(value))",
        "return value",
        "test_log_lines.py::test_harmful_character_is_escaped_wherever_it_is",
    ),
    Mutant(
        "json-passes-controls-on",
        "log_lines.py",
        "if line.isascii() and DELETE not in line:",
        "if line:",
        "test_log_lines.py::test_harmful_character_is_escaped_wherever_it_is",
    ),
)
