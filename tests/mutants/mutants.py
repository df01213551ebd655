"""The seeded bugs, which the test suite must find: one small change of the server each.

Each promise of docs/internals/guarantees.md has at least one bug that breaks it, and a
test that is marked with the promise finds the bug. To add a bug, copy an entry: `old`
must be in its file exactly once. Both `test` and each of `holds` must find the bug. A
test that starts the program in an environment without PYTHONPATH can't find one.
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
        "errors/reasons.py",
        "UPSTREAM_THROTTLED = Row(\n        code.RESOURCE_EXHAUSTED,",
        "UPSTREAM_THROTTLED = Row(\n        code.UNAVAILABLE,",
        "unit/errors/test_status.py::test_code_matches_the_advice",
        holds=(
            "e2e/test_errors.py::test_error_of_the_seed_has_its_row",
            "docs/test_errors.py::test_row_tells_code_details_and_advice",
        ),
    ),
    Mutant(
        "metadata-is-told-as-it-came",
        "errors/status.py",
        "{key: _clean(value, MAX_TEXT) for",
        "{key: value for",
        "unit/errors/test_status.py::test_metadata_is_cleaned_and_cut",
        holds=("unit/errors/test_status.py::test_any_status_is_short_and_printable",),
    ),
    Mutant(
        "request-id-is-taken-unchecked",
        "context.py",
        "\n            and _REQUEST_ID.fullmatch(value)",
        "",
        "unit/interceptors/test_chain.py::test_request_id_is_generated_without_a_valid_one",
    ),
    # What is asked.
    Mutant(
        "id-may-have-a-tail",
        "services/validation.py",
        "if not _RUN_ID.fullmatch(run_id):",
        "if not _RUN_ID.match(run_id):",
        "unit/services/test_run_service.py::test_id_of_another_form_is_refused",
        holds=(
            "e2e/test_errors.py::test_bad_request_asks_nothing_of_healthomics",
            "faults/test_ids.py::test_id_that_is_none_is_refused",
        ),
    ),
    # How often, and for how long.
    Mutant(
        "one-attempt-too-many",
        "runs/retry.py",
        "attempt >= self._max_attempts",
        "attempt > self._max_attempts",
        "unit/runs/test_retry.py::test_last_failure_stands_when_the_attempts_are_used_up",
        holds=(
            "faults/test_sharing.py::test_crowd_shares_a_failure",
            "faults/test_aws_errors.py::test_error_that_may_pass_is_asked_for_three_times",
        ),
    ),
    Mutant(
        "retries-never-run-out",
        "runs/retry.py",
        "        self._in_hand -= 1\n",
        "",
        "unit/runs/test_retry.py::test_dead_upstream_sees_few_more_calls_than_callers_make",
        holds=(
            "faults/test_outage.py::test_outage_sees_few_calls_beyond_those_of_the_callers",
        ),
    ),
    # What is trusted on the way.
    Mutant(
        "body-is-capped-by-the-chunk",
        "upstream/transport.py",
        "if len(body) > self._max_body_bytes:",
        "if len(chunk) > self._max_body_bytes:",
        "unit/upstream/test_transport.py::test_body_that_is_not_to_be_had_is_a_failure",
        holds=(
            "faults/test_memory.py::test_answers_without_bounds_take_bounded_memory",
        ),
    ),
    Mutant(
        "any-certificate-is-trusted",
        "upstream/transport.py",
        "    context.load_verify_locations(ca_file)\n",
        "    context.check_hostname = False\n    context.verify_mode = ssl.CERT_NONE\n",
        "unit/upstream/test_transport.py::test_untrusted_certificate_is_sent_nothing",
    ),
    Mutant(
        "compression-is-welcome",
        "upstream/healthomics.py",
        '        headers["accept-encoding"] = "identity"\n',
        "",
        "unit/upstream/test_healthomics.py::test_request_is_signed_as_it_is_sent",
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
        "unit/upstream/test_classify.py::test_body_without_a_code_leaves_it_to_the_status",
        holds=(
            "e2e/test_errors.py::test_page_of_a_proxy_is_not_healthomics_word",
            "faults/test_proxies.py::test_page_of_a_proxy_is_judged_by_its_status_alone",
        ),
    ),
    # Whose identity it is.
    Mutant(
        "clock-s-offset-is-never-dropped",
        "upstream/clock.py",
        "return skew if abs(skew) >= MIN_SKEW else NO_SKEW",
        "return skew if abs(skew) >= MIN_SKEW else self.skew",
        "unit/upstream/test_healthomics.py::test_offset_is_dropped_when_the_clock_is_set_right",
        holds=(
            "faults/test_clock.py::test_offset_is_dropped_when_the_clock_is_right_again",
        ),
    ),
    Mutant(
        "health-stays-up",
        "services/health.py",
        "SERVICE: not self._readiness.why_not,",
        "SERVICE: True,",
        "unit/services/test_health.py::test_health_of_the_service_is_readiness",
        holds=(
            "e2e/test_standard_services.py::test_health_follows_the_gateway_own_identity",
        ),
    ),
    Mutant(
        "keys-are-not-waited-for",
        "app/gateway.py",
        "fault=self._keyring.fault, why=unread)",
        "fault=self._keyring.fault)",
        "unit/app/test_gateway.py::test_gateway_is_unready_until_keys_were_read_once",
    ),
    Mutant(
        "task-that-fails-stays-dead",
        "background.py",
        "            if failure is None:\n",
        "            if True:\n",
        "unit/test_background.py::test_task_that_fails_runs_again_later_and_later",
    ),
    Mutant(
        "admin-connections-pile-up",
        "app/admin.py",
        "[: -self._most]",
        "[:0]",
        "unit/services/test_health.py::test_admin_cuts_the_oldest_connection_for_one_too_many",
    ),
    Mutant(
        "livez-stays-up",
        "app/admin.py",
        "        if self._readiness.is_dead:\n",
        "        if False:\n",
        "unit/services/test_health.py::test_livez_fails_once_no_new_call_can_reach_the_gateway",
        holds=("e2e/test_shutdown.py::test_gateway_whose_accept_loop_ends_says_so",),
    ),
    Mutant(
        "blocked-process-lives-on",
        "app/process.py",
        "            self._end_within(self._drain_seconds + self._force_seconds)\n",
        "",
        "e2e/test_shutdown.py::test_process_whose_event_loop_is_blocked_ends_by_force",
    ),
    Mutant(
        "second-signal-changes-nothing",
        "app/process.py",
        "call_soon_threadsafe(self.second.set)",
        "call_soon_threadsafe(self.first.set)",
        "e2e/test_drain.py::test_second_signal_ends_the_drain",
    ),
    # What an answer says.
    Mutant(
        "answer-about-another-run-is-given",
        "upstream/translate.py",
        'if type(sent.get("id")) is not str or sent["id"] != run_id:',
        'if type(sent.get("id")) is not str:',
        "unit/upstream/test_translate.py::test_answer_about_another_run_is_refused",
        holds=(
            "e2e/test_errors.py::test_success_that_is_none_is_never_ok",
            "faults/test_members.py::test_answer_about_another_run_is_never_delivered",
        ),
    ),
    Mutant(
        "unknown-member-is-dropped",
        "upstream/fields.py",
        "        if value is None:\n            continue",
        "        if value is None or name not in puts:\n            continue",
        "unit/upstream/test_translate.py::test_member_that_has_no_field_for_it_is_kept",
        holds=(
            "e2e/test_answers.py::test_answer_keeps_what_the_contract_does_not_know",
            "fuzz/test_differential.py::test_answers_are_rebuilt",
            "fuzz/test_fuzz.py::test_corpus_breaks_no_promise",
        ),
    ),
    Mutant(
        "mask-leaves-out-the-time",
        "runs/field_mask.py",
        "        selected.observe_time.CopyFrom(run.observe_time)\n",
        "",
        "unit/runs/test_field_mask.py::test_observe_time_is_always_answered",
        holds=("e2e/test_answers.py::test_mask_selects_fields_and_their_kept_text",),
    ),
    Mutant(
        "withheld-member-comes-back",
        "runs/field_mask.py",
        "if self.paths is None and not self.withheld:",
        "if self.paths is None:",
        "unit/runs/test_field_mask.py::test_withholding_leaves_out_typed_and_kept_members_alike",
        holds=("e2e/test_answers.py::test_withheld_members_reach_nobody",),
    ),
    # What callers share, and what they leave each other.
    Mutant(
        "crowd-joins-a-fetch-that-was-sent",
        "runs/coalesce.py",
        "            self._sent[fetch.query] = self._open.pop(fetch.query)",
        "            self._sent[fetch.query] = self._open[fetch.query]",
        "unit/runs/test_coalesce.py::test_answer_was_asked_for_after_its_caller_came",
        holds=("faults/test_sharing.py::test_crowd_for_one_run_costs_two_calls",),
    ),
    Mutant(
        "last-who-leaves-leaves-the-fetch",
        "runs/coalesce.py",
        "            fetch.task.cancel()",
        "            pass",
        "unit/runs/test_coalesce.py::test_last_who_leaves_ends_the_fetch",
        holds=(
            "e2e/test_deadlines.py::test_cancelled_call_stops_the_upstream_call",
            "faults/test_leaving.py::test_client_that_leaves_takes_its_upstream_call_along",
            "faults/test_leaving.py::test_crowd_that_leaves_frees_every_place",
            "faults/test_sharing.py::test_caller_in_a_crowd_leaves_at_its_own_deadline",
        ),
    ),
    Mutant(
        "memory-is-as-old-as-it-likes",
        "runs/coalesce.py",
        "self._clock() - remembered.at <= max_staleness_seconds",
        "self._clock() - remembered.at >= 0",
        "unit/runs/test_coalesce.py::test_memory_answers_who_allows_for_it",
    ),
    Mutant(
        "run-that-is-gone-stays-in-memory",
        "runs/coalesce.py",
        "                self._memory.pop(query.bare, None)\n",
        "                pass\n",
        "unit/runs/test_coalesce.py::test_run_that_is_gone_is_forgotten",
    ),
    Mutant(
        "burst-has-no-end",
        "token_bucket.py",
        "self.tokens = min(self.tokens + seconds * self.rate, self._capacity)",
        "self.tokens += seconds * self.rate",
        "unit/runs/test_rate_limit.py::test_no_second_sees_more_than_rate_and_burst",
    ),
    Mutant(
        "throttle-is-not-heeded",
        "runs/rate_limit.py",
        "                pacer.throttled()\n",
        "                pass\n",
        "unit/runs/test_rate_limit.py::test_source_slows_down_for_throttles_alone",
        holds=("faults/test_sharing.py::test_pacer_makes_room_for_others",),
    ),
    Mutant(
        "first-come-first-served",
        "runs/fairness.py",
        "        return self._last.get(caller.name, 0), self._last.get(caller, 0)",
        "        return 0, 0",
        "unit/runs/test_rate_limit.py::test_callers_take_turns",
        holds=(
            "unit/runs/test_bulkhead.py::test_callers_take_turns_in_places_as_in_tokens",
        ),
    ),
    Mutant(
        "polls-wait-for-every-call",
        "runs/fairness.py",
        "        is_poll = self._poll_credit >= 1\n",
        "        is_poll = False\n",
        "unit/runs/test_rate_limit.py::test_polls_get_their_share_while_calls_wait_too",
    ),
    Mutant(
        "token-is-taken-without-time",
        "runs/scheduler.py",
        "        if self._clock() + wait > call.deadline:",
        "        if False:",
        "unit/runs/test_rate_limit.py::test_call_whose_turn_comes_too_late_is_refused_at_once",
        holds=(
            "unit/runs/test_bulkhead.py::test_call_whose_turn_comes_too_late_is_refused_at_once",
        ),
    ),
    Mutant(
        "turn-needs-no-place",
        "runs/scheduler.py",
        "            and self._places.free\n",
        "",
        "unit/runs/test_scheduler.py::test_rate_holds_after_healthomics_has_stalled",
    ),
    Mutant(
        "turn-of-who-leaves-is-lost",
        "runs/scheduler.py",
        "                self._give_back()\n",
        "                pass\n",
        "unit/runs/test_scheduler.py::test_call_that_leaves_as_its_turn_comes_gives_it_back",
    ),
    Mutant(
        "watch-goes-on-after-the-end",
        "runs/watch.py",
        "                self._is_done = state.run.status in TERMINAL\n",
        "",
        "unit/runs/test_watch.py::test_watch_of_a_run_that_has_ended_is_one_state",
        holds=(
            "faults/test_watching.py::test_crowd_that_watches_one_run_sees_every_state",
        ),
    ),
    Mutant(
        "slow-watcher-gets-every-state",
        "runs/poller.py",
        "        return untaken[1 - MAX_UNTAKEN :]",
        "        return untaken",
        "unit/runs/test_watch.py::test_slow_watcher_gets_the_newest_and_holds_up_nobody",
        holds=(
            "faults/test_watching.py::test_slow_watcher_gets_the_newest_and_holds_up_nobody",
        ),
    ),
    Mutant(
        "proxy-s-page-ends-a-watch",
        "runs/poll_failures.py",
        "if error.reason not in IN_DOUBT:",
        "if True:",
        "unit/runs/test_watch.py::test_failure_in_doubt_ends_a_watch_only_if_it_lasts",
    ),
    Mutant(
        "heartbeats-are-never-sent",
        "runs/watch.py",
        "            elif self._is_silent:\n",
        "            elif False:\n",
        "unit/runs/test_watch.py::test_heartbeat_is_sent_when_nothing_else_was_for_so_long",
    ),
    Mutant(
        "messages-of-streams-count-as-read",
        "interceptors/stream_writer.py",
        "self._unread.writing(context, len(message))",
        "self._unread.writing(context, 0)",
        "unit/interceptors/test_stream_writer.py::test_message_beyond_the_unread_limit_is_refused",
        holds=(
            "faults/test_http2.py::test_what_is_not_read_is_bounded_for_calls_and_watches",
        ),
    ),
    # Who calls: tokens.
    Mutant(
        "audience-is-not-checked",
        "auth/tokens.py",
        "            and not self._audiences.isdisjoint(audiences)\n",
        "",
        "unit/auth/test_tokens.py::test_invalid_claim_is_refused",
    ),
    Mutant(
        "list-of-algorithms-is-not-looked-at",
        "auth/tokens.py",
        "if not isinstance(alg, str) or alg not in self._algorithms:",
        "if not isinstance(alg, str):",
        "unit/auth/test_tokens.py::test_token_of_each_algorithm_needs_it_to_be_allowed",
        holds=("unit/auth/test_tokens.py::test_token_without_signature_is_refused",),
    ),
    Mutant(
        "watch-outlasts-its-token",
        "interceptors/credential_expiry.py",
        "            self._end(task, Reason.TOKEN_EXPIRED)\n",
        "            pass\n",
        "unit/interceptors/test_credential_expiry.py::test_call_ends_when_its_first_credential_expires",
        ("e2e/test_rules.py::test_watch_ends_with_its_token",),
    ),
    # Who calls: certificates, and who shows nothing.
    Mutant(
        "bad-certificate-replaces-the-good",
        "tls/reloader.py",
        "self._take(self._served, error.args)",
        "self._take(self._served, ())",
        "unit/tls/test_reloader.py::test_fault_is_reported_until_it_is_fixed",
        holds=("faults/test_certificates.py::test_bad_certificate_keeps_the_old",),
    ),
    Mutant(
        "files-are-served-as-they-are",
        "tls/files.py",
        "Contents(certificates_pem(chain), key_pem(key), certificates_pem(clients))",
        "contents",
        "unit/tls/test_reloader.py::test_text_around_pem_is_accepted",
    ),
    Mutant(
        "socket-is-taken-from-who-serves-it",
        "app/listener.py",
        'raise ListenFault("it is served already")',
        "path.unlink()",
        "unit/app/test_listener.py::test_socket_that_is_served_is_a_fault",
    ),
    Mutant(
        "listener-serves-everything",
        "app/servers.py",
        'if "RunService" in services:',
        "if True:",
        "unit/app/test_listener.py::test_listener_serves_what_is_named",
    ),
    Mutant(
        "each-listener-has-its-own-limits",
        "app/interceptor_stack.py",
        "            limits = self._limits\n",
        "            limits = CallerLimits()\n",
        "unit/app/test_listener.py::test_limits_hold_over_all_listeners",
    ),
    # What they may.
    Mutant(
        "who-is-in-no-rule-may-everything",
        "auth/policy.py",
        "if each.matches(identity)), DENY_ALL)",
        "if each.matches(identity)), ALLOW_ALL)",
        "unit/auth/test_policy.py::test_caller_without_a_rule_is_denied",
    ),
    Mutant(
        "answer-is-not-held-to-the-rule",
        "services/run_service.py",
        "                call.access.check(answer.run)\n",
        "",
        "e2e/test_rules.py::test_shared_fetch_reaches_only_those_who_may_see_it",
        holds=(
            "e2e/test_rules.py::test_run_that_is_not_allowed_and_run_that_is_not_there_look_the_same",
        ),
    ),
    # What each may have for itself.
    Mutant(
        "callers-of-a-host-share-their-limits",
        "interceptors/authorize.py",
        "            if identity != ANONYMOUS:\n"
        "                context.caller = Caller(identity, context.peer)\n",
        "",
        "e2e/test_rules.py::test_each_caller_has_its_own_limits",
        holds=(
            "e2e/test_overload.py::test_caller_gets_its_share_of_the_places",
            "e2e/test_overload.py::test_scanner_delays_no_other_identity",
        ),
    ),
    # As whom AWS is asked.
    Mutant(
        "callers-of-a-role-share-a-session",
        "auth/policy.py",
        "return Partition(role, self.identity) if role else OWN",
        "return Partition(role) if role else OWN",
        "unit/auth/test_policy.py::test_partition_is_the_role_and_its_caller",
        holds=(
            "faults/test_roles.py::test_each_caller_s_session_is_of_its_role_and_name",
        ),
    ),
    Mutant(
        "place-is-held-while-credentials-are-renewed",
        "upstream/healthomics.py",
        "            raise self._learned(error, reply, credentials, skew) from None\n",
        "            learned = self._learned(error, reply, credentials, skew)\n"
        "            raise "
        "(await learned.fix() if learned.fix else learned) from None\n",
        "faults/test_roles.py"
        "::test_session_that_is_renewed_slowly_holds_up_nobody_else",
    ),
    Mutant(
        "session-that-nobody-waits-for-is-asked-for",
        "upstream/credentials.py",
        "            if not (self._waiting or is_reading or self._looks_out):",
        "            if False:",
        "faults/test_roles.py::test_crowd_that_left_a_stalled_sts_leaves_little_behind",
    ),
    # What is told of callers, and of their secrets.
    Mutant(
        "metadata-is-logged",
        "interceptors/audit.py",
        "        peer=context.peer,\n",
        "        peer=context.peer,\n"
        "        invocation=context.rpc.invocation_metadata(),\n",
        "unit/interceptors/test_chain.py::test_answered_call_is_logged_once",
    ),
    Mutant(
        "audit-shares-the-bound-of-other-lines",
        "telemetry/log_writer.py",
        "self._audit if is_audit else self._other)",
        "self._other)",
        "unit/telemetry/test_log_writer.py::"
        "test_lines_beyond_the_bound_are_lost_and_counted_by_kind",
    ),
    # What an operator reads.
    Mutant(
        "fault-repeats-what-was-set",
        "settings/sources.py",
        '**error.get("ctx", {})})\n',
        '**error.get("ctx", {})}) + f": {error[\'input\']}"\n',
        "unit/settings/test_load.py::test_fault_does_not_repeat_what_was_set",
    ),
    Mutant(
        "empty-text-is-none",
        "settings/value_types.py",
        "if is_optional and value is None:",
        'if is_optional and value in ("", None):',
        "unit/settings/test_load.py::test_empty_text_is_a_fault_and_sets_nothing",
    ),
    Mutant(
        "client-s-certificate-is-an-authority",
        "tls/certificates.py",
        "        if not _may_be_authority(each):\n",
        "        if False:\n",
        "unit/tls/test_reloader.py::test_client_s_certificate_in_place_of_its_authority_is_a_fault",
        holds=(
            "unit/tls/test_reloader.py::test_client_s_certificate_does_not_replace_the_authority",
        ),
    ),
    Mutant(
        "log-s-faults-are-not-told",
        "app/process.py",
        'parts={"log": log.fault}',
        "parts={}",
        "faults/test_log.py::test_stderr_that_takes_nothing_holds_up_nothing",
    ),
    Mutant(
        "terminal-obeys-callers",
        "telemetry/log_lines.py",
        "return value if value.isprintable() else _Shown(repr(value))",
        "return value",
        "unit/telemetry/test_log_lines.py::test_harmful_character_is_escaped_wherever_it_is",
    ),
    # What each guarantee of docs/internals/guarantees.md promises beyond the above.
    Mutant(
        "error-of-the-model-has-no-row",
        "upstream/classify.py",
        '(Verdict(Reason.RUN_CONFLICT, Again.NO), "ConflictException"),',
        '(Verdict(Reason.RUN_CONFLICT, Again.NO), "Conflict"),',
        "contract/test_model.py::test_errors_of_the_model_are_classified",
    ),
    Mutant(
        "each-watcher-has-its-own-poller",
        "runs/watch.py",
        "        if poller is None:\n            poller = self._pollers[query]",
        "        if True:\n            poller = self._pollers[query]",
        "unit/runs/test_watch.py::test_watchers_share_the_polls",
        holds=(
            "faults/test_watching.py::test_watchers_that_vanish_leave_no_poll_and_may_come_back",
        ),
    ),
    Mutant(
        "shutdown-waits-for-watches",
        "app/interceptor_stack.py",
        "        bounds.drain.lasting,\n",
        "        bounds.drain.intercept,\n",
        "e2e/test_drain.py::test_drain_ends_watches_and_waits_for_none",
    ),
    Mutant(
        "call-without-deadline-never-ends",
        "services/run_service.py",
        "        seconds = self._default_deadline_seconds\n",
        '        seconds = float("inf")\n',
        "e2e/test_deadlines.py"
        "::test_deadline_of_the_server_holds_where_the_caller_has_none",
    ),
    Mutant(
        "attempt-takes-as-long-as-it-likes",
        "upstream/transport.py",
        "asyncio.timeout(self._attempt_timeout_seconds) as attempt",
        "asyncio.timeout(None) as attempt",
        "unit/upstream/test_transport.py::test_whole_attempt_is_bounded",
    ),
    Mutant(
        "shutdown-ends-calls-at-once",
        "app/gateway.py",
        "        await self._servers.drain.drain(seconds)\n",
        "",
        "e2e/test_drain.py::test_drain_loses_none_of_300_calls_in_flight",
        holds=("faults/test_sigterm.py::test_drain_ends_every_call_that_hangs",),
    ),
    Mutant(
        "renewals-of-credentials-run-side-by-side",
        "upstream/credentials.py",
        "        if self._refresh is None or self._refresh.done():\n",
        "        if True:\n",
        "faults/test_roles.py::test_session_that_ends_in_flight_is_replaced_once",
        holds=(
            "unit/upstream/test_credentials.py::test_callers_at_once_share_one_read",
        ),
    ),
    Mutant(
        "unknown-kids-each-cause-a-read",
        "auth/keyring.py",
        "        if self._reading is None or self._reading.done():\n"
        "            self._reading = ",
        "        if True:\n            self._reading = ",
        "unit/auth/test_keyring.py::test_concurrent_unknown_kids_cause_one_read",
        holds=("e2e/test_overload.py::test_tokens_of_unknown_keys_take_no_place",),
    ),
    Mutant(
        "plaintext-is-served-anywhere",
        "settings/checks.py",
        "if not (each.address.is_loopback or each.files or tls.insecure):",
        "if not (each.address or each.files or tls.insecure):",
        "unit/settings/test_load.py::test_address_that_others_reach_needs_certificates",
    ),
    Mutant(
        "connection-has-any-number-of-calls",
        "app/grpc_server.py",
        '    ("grpc.max_concurrent_streams", 500),\n',
        "",
        "e2e/test_options.py::test_connection_has_so_many_calls_under_way",
    ),
    Mutant(
        "health-streams-wait-for-one-another",
        "services/health.py",
        "                yield HealthCheckResponse(status=status)\n",
        '                lock = __import__("asyncio").Lock()\n'
        '                async with self.__dict__.setdefault("lock", lock):\n'
        "                    yield HealthCheckResponse(status=status)\n",
        "unit/services/test_health.py::test_health_stream_that_is_not_read_holds_up_no_other",
    ),
    Mutant(
        "silent-peer-keeps-its-connection",
        "app/grpc_server.py",
        '"grpc.http2.ping_timeout_ms"',
        '"grpc.ping_timeout_ms"',
        "e2e/test_options.py::test_peer_gone_silent_is_dropped",
        holds=(
            "faults/test_http2.py::test_attacker_that_only_waits_is_closed_by_a_timer",
        ),
    ),
    Mutant(
        "collector-walks-what-stays",
        "app/process.py",
        "    gc.freeze()\n",
        "",
        "unit/app/test_gateway.py::test_what_stays_is_not_collected",
    ),
    Mutant(
        "flood-fills-the-log",
        "telemetry/log_limit.py",
        "passes = self._lines[kind] <= self._lines_per_second",
        "passes = True",
        "unit/telemetry/test_log_limit.py::test_flood_of_one_kind_is_cut_and_counted",
    ),
)
