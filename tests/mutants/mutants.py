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
    # Workers.
    Mutant(
        "worker-is-not-replaced",
        "workers/keeper.py",
        "            await self._sleep(restarts.pause_seconds(served))  # back-off\n",
        "            return\n",
        "unit/workers/test_keeper.py::test_worker_that_ends_is_started_again",
        holds=("e2e/test_workers.py::test_workers_share_the_port_and_are_replaced",),
    ),
    Mutant(
        "workers-drain-at-once",
        "workers/drain.py",
        "timeout=max(0.0, turn - now()))",
        "timeout=0.0)",
        "unit/workers/test_drain.py::test_workers_drain_one_after_another",
    ),
    Mutant(
        "worker-starts-with-the-first-rules",
        "workers/keeper.py",
        "            self._content = content\n            self.reload()\n",
        "            self.reload()\n",
        "unit/workers/test_keeper.py::test_new_content_reaches_all_workers",
        holds=("e2e/test_workers.py::test_worker_starts_with_the_newest_rules",),
    ),
    # Errors that clients receive.
    Mutant(
        "throttle-has-another-code",
        "errors/reasons.py",
        "UPSTREAM_THROTTLED = Row(\n        code.RESOURCE_EXHAUSTED,",
        "UPSTREAM_THROTTLED = Row(\n        code.UNAVAILABLE,",
        "unit/errors/test_status.py::test_code_matches_the_advice",
        holds=(
            "e2e/test_errors.py::test_sandbox_error_has_its_row",
            "docs/test_errors.py::test_row_has_code_details_and_advice",
        ),
    ),
    Mutant(
        "metadata-is-returned-as-received",
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
    # Validation of requests.
    Mutant(
        "id-may-have-a-tail",
        "services/validation.py",
        "if not _RUN_ID.fullmatch(run_id):",
        "if not _RUN_ID.match(run_id):",
        "unit/services/test_run_service.py::test_id_of_another_form_is_refused",
        holds=(
            "e2e/test_errors.py::test_invalid_request_sends_no_upstream_request",
            "faults/test_ids.py::test_invalid_id_is_refused",
        ),
    ),
    # Attempts and waits.
    Mutant(
        "one-attempt-too-many",
        "runs/retry.py",
        "attempt >= self._max_attempts",
        "attempt > self._max_attempts",
        "unit/runs/test_retry.py::test_last_error_is_raised_after_the_last_attempt",
        holds=(
            "faults/test_sharing.py::test_shared_fetch_fails_for_all_its_callers",
            "faults/test_aws_errors.py::test_transient_error_is_retried_twice",
        ),
    ),
    Mutant(
        "retries-never-run-out",
        "runs/retry.py",
        "        self._budget -= 1\n",
        "",
        "unit/runs/test_retry.py::test_retry_budget_limits_the_retries_of_an_outage",
        holds=("faults/test_outage.py::test_outage_receives_few_retries",),
    ),
    # Requests to HealthOmics.
    Mutant(
        "body-is-capped-by-the-chunk",
        "upstream/transport.py",
        "if len(body) > self._max_body_bytes:",
        "if len(chunk) > self._max_body_bytes:",
        "unit/upstream/test_transport.py::test_unreadable_body_is_a_failure",
        holds=("faults/test_memory.py::test_endless_responses_take_limited_memory",),
    ),
    Mutant(
        "any-certificate-is-trusted",
        "upstream/http_session.py",
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
        "404-without-a-code-is-a-missing-run",
        "upstream/classify.py",
        "bare = {408: _TIMED_OUT, 429: _THROTTLED}",
        "bare = {\n"
        "            404: Verdict(Reason.RUN_NOT_FOUND, Again.NO),\n"
        "            408: _TIMED_OUT,\n"
        "            429: _THROTTLED,\n"
        "        }",
        "unit/upstream/test_classify.py::test_body_without_a_code_leaves_it_to_the_status",
        holds=(
            "faults/test_proxies.py::test_page_of_a_proxy_is_classified_by_its_status",
        ),
    ),
    # The gateway's AWS credentials, and readiness.
    Mutant(
        "clock-s-offset-is-never-dropped",
        "upstream/clock.py",
        "if skew is not None:",
        "if skew:",
        "unit/upstream/test_healthomics.py::test_offset_is_dropped_when_the_clock_is_set_right",
        holds=(
            "faults/test_clock.py::test_offset_is_dropped_when_the_clock_is_right_again",
        ),
    ),
    Mutant(
        "health-stays-up",
        "services/health.py",
        "return _NOT_SERVING if self._readiness.why_not else _SERVING",
        "return _SERVING",
        "unit/services/test_health.py::test_health_of_the_service_is_readiness",
        holds=(
            "e2e/test_standard_services.py::test_health_follows_the_gateways_credentials",
        ),
    ),
    Mutant(
        "short-outage-makes-unready",
        "services/reachability.py",
        " and now - self._since >= MIN_SECONDS",
        "",
        "unit/services/test_reachability.py::test_short_outage_is_no_reason_to_be_unready",
    ),
    Mutant(
        "unreached-upstream-lasts",
        "services/readiness.py",
        "EXPIRING = frozenset({AWS, UPSTREAM})",
        "EXPIRING = frozenset({AWS})",
        "unit/services/test_health.py::test_unreached_upstream_expires_apart_from_the_identity",
    ),
    Mutant(
        "status-page-shows-identities",
        "app/statusz/shown_settings.py",
        " and not settings.statusz.identities",
        " and False",
        "unit/app/statusz/test_shown_settings.py::test_identities_of_rules_and_sockets_are_hidden",
        holds=(
            "e2e/test_statusz.py::test_identities_are_shown_only_if_the_setting_says_so",
        ),
    ),
    Mutant(
        "metrics-show-identities",
        "app/reload_change.py",
        "are_shown = settings.statusz.identities",
        "are_shown = True",
        "unit/app/test_reload.py::test_rules_are_labelled_with_the_position_alone",
        holds=(
            "e2e/test_statusz.py::test_identities_are_shown_only_if_the_setting_says_so",
        ),
    ),
    Mutant(
        "status-page-escapes-nothing",
        "app/statusz/markup.py",
        "else escape(str(child))",
        "else str(child)",
        "unit/app/statusz/test_page.py::test_every_text_is_escaped",
    ),
    Mutant(
        "channelz-is-always-served",
        "settings/listener_settings.py",
        "DEFAULT_SERVICES | (CHANNELZ & named)",
        "DEFAULT_SERVICES | CHANNELZ",
        "e2e/test_channelz.py::test_channelz_is_not_there_by_default",
    ),
    Mutant(
        "keys-are-not-waited-for",
        "app/readiness_parts.py",
        "fault=parts.keyring.fault, why=unread)",
        "fault=parts.keyring.fault)",
        "unit/app/test_gateway.py::test_gateway_is_unready_until_keys_are_read",
    ),
    Mutant(
        "task-that-fails-stays-dead",
        "background.py",
        "            if failure is None:\n",
        "            if True:\n",
        "unit/test_background.py::test_failed_task_is_restarted_with_back_off",
    ),
    Mutant(
        "admin-connections-pile-up",
        "app/admin_server.py",
        "[: -self._most]",
        "[:0]",
        "unit/services/test_health.py::test_admin_closes_the_oldest_connection_for_one_too_many",
    ),
    Mutant(
        "livez-stays-up",
        "app/admin.py",
        "        is_dead = self._readiness.is_dead\n",
        "        is_dead = False\n",
        "unit/services/test_health.py::test_livez_fails_if_no_new_call_can_reach_the_gateway",
        holds=(
            "e2e/test_shutdown.py::test_probes_fail_when_the_accept_loop_has_ended",
        ),
    ),
    Mutant(
        "blocked-process-lives-on",
        "app/shutdown.py",
        "            self._end_within(self.drain_seconds + self._force_seconds)\n",
        "",
        "e2e/test_shutdown.py::test_process_with_a_blocked_event_loop_ends_by_force",
    ),
    Mutant(
        "second-signal-changes-nothing",
        "app/shutdown.py",
        "call_soon_threadsafe(self.second.set)",
        "call_soon_threadsafe(self.first.set)",
        "e2e/test_drain.py::test_second_signal_ends_the_drain",
    ),
    # The content of answers.
    Mutant(
        "answer-about-another-run-is-given",
        "upstream/translate.py",
        'if type(sent.get("id")) is not str or sent["id"] != run_id:',
        'if type(sent.get("id")) is not str:',
        "unit/upstream/test_translate.py::test_answer_about_another_run_is_refused",
        holds=("faults/test_members.py::test_response_about_another_run_is_an_error",),
    ),
    Mutant(
        "body-that-cannot-be-parsed-is-an-empty-run",
        "upstream/translate.py",
        "        raise MalformedAnswerError from error\n",
        '        sent = {"id": run_id}\n',
        "faults/test_bodies.py::test_success_without_a_json_object_is_malformed",
        holds=(
            "unit/upstream/test_translate.py::test_body_that_is_not_an_answer_is_malformed",
        ),
    ),
    Mutant(
        "unknown-member-is-dropped",
        "upstream/fields.py",
        "        if value is None:\n            continue",
        "        if value is None or name not in puts:\n            continue",
        "unit/upstream/test_translate.py::test_member_that_has_no_field_for_it_is_kept",
        holds=(
            "faults/test_members.py::test_unknown_members_and_values_are_kept",
            "fuzz/test_differential.py::test_answers_are_rebuilt",
            "fuzz/test_fuzz.py::test_corpus_breaks_no_promise",
        ),
    ),
    Mutant(
        "mask-leaves-out-the-time",
        "runs/field_mask.py",
        "        selected.observe_time.CopyFrom(run.observe_time)\n",
        "",
        "unit/runs/test_field_mask.py::test_observe_time_is_always_returned",
        holds=("e2e/test_answers.py::test_mask_selects_fields_and_unmodeled_members",),
    ),
    Mutant(
        "withheld-member-comes-back",
        "runs/field_mask.py",
        "if self.paths is None and not self.withheld:",
        "if self.paths is None:",
        "unit/runs/test_field_mask.py::test_withheld_members_are_left_out_of_fields_and_unmodeled_json",
        holds=("e2e/test_answers.py::test_withheld_members_are_in_no_answer",),
    ),
    # Shared fetches, the quota and watches.
    Mutant(
        "crowd-joins-a-fetch-that-was-sent",
        "runs/coalesce.py",
        "            self._sent[fetch.query] = self._open.pop(fetch.query)",
        "            self._sent[fetch.query] = self._open[fetch.query]",
        "unit/runs/test_coalesce.py::test_answer_is_read_after_its_call_came",
        holds=(
            "faults/test_sharing.py::test_concurrent_calls_for_one_run_cost_two_requests",
        ),
    ),
    Mutant(
        "last-caller-that-leaves-keeps-the-fetch",
        "runs/coalesce.py",
        "            fetch.task.cancel()",
        "            pass",
        "unit/runs/test_coalesce.py::test_last_cancelled_call_ends_the_fetch",
        holds=(
            "faults/test_leaving.py::test_call_that_is_left_cancels_its_request",
            "faults/test_leaving.py::test_calls_that_are_left_free_their_places",
            "faults/test_sharing.py::test_caller_of_a_shared_fetch_has_its_own_deadline",
        ),
    ),
    Mutant(
        "cached-answer-has-any-age",
        "runs/cache.py",
        "if age_seconds > max_age_seconds:",
        "if age_seconds < 0:",
        "unit/runs/test_cache.py::test_answer_is_returned_up_to_its_maximum_age",
    ),
    Mutant(
        "missing-run-stays-in-the-cache",
        "runs/cache.py",
        "                    each.remove_run(query)\n",
        "                    pass\n",
        "unit/runs/test_cache.py::test_run_that_is_not_found_is_removed",
    ),
    # Answers that replicas share.
    Mutant(
        "fresh-request-looks-in-the-store",
        "runs/shared_answers.py",
        "if not max_age_seconds or not self._replica.is_attached:",
        "if not self._replica.is_attached:",
        "unit/runs/test_shared_answers.py::test_fresh_request_never_looks_in_the_store",
    ),
    Mutant(
        "shared-answer-has-any-age",
        "runs/shared_answers.py",
        "if dated is None or dated.age_seconds > max_age_seconds:",
        "if dated is None:",
        "unit/runs/test_shared_answers.py::test_answer_that_is_too_old_is_not_returned",
    ),
    Mutant(
        "store-says-how-old-an-answer-is",
        "runs/answer_values.py",
        "age_seconds = max(opened.age_seconds, stored_seconds)",
        "age_seconds = stored_seconds",
        "unit/runs/test_shared_answers.py::test_old_value_that_is_replayed_keeps_its_age",
    ),
    Mutant(
        "shared-answers-ignore-the-partition",
        "runs/answer_values.py",
        "role, caller = query.partition",
        'role, caller = query.partition.role, ""',
        "unit/runs/test_answer_values.py::test_value_of_another_callers_session_is_rejected",
        holds=("unit/runs/test_shared_answers.py::test_copied_value_is_ignored",),
    ),
    Mutant(
        "value-is-valid-anywhere",
        "shared/seal.py",
        "if not hmac.compare_digest(tag, self._tag(name, field, at, payload)):",
        "if not tag:",
        "unit/runs/test_answer_values.py::test_value_of_another_entry_is_rejected",
    ),
    Mutant(
        "each-replica-has-the-whole-rate",
        "interceptors/shared_rates.py",
        "        share = attached / max(attached, self._replica.replicas)\n",
        "        share = 1.0\n",
        "unit/interceptors/test_shared_rates.py::test_absent_replica_keeps_its_share",
    ),
    Mutant(
        "watches-of-others-do-not-count",
        "interceptors/shared_counts.py",
        "is_possible = await self._send(caller, number, limit=limit)",
        "is_possible = await self._send(caller, number, limit=None)",
        "unit/interceptors/test_shared_counts.py"
        "::test_limit_holds_for_all_replicas_together",
    ),
    Mutant(
        "burst-has-no-end",
        "token_bucket.py",
        "self.tokens = min(self.tokens + seconds * self.rate, self._capacity)",
        "self.tokens += seconds * self.rate",
        "unit/runs/test_rate_limit.py::test_no_second_has_more_turns_than_rate_and_burst",
    ),
    Mutant(
        "throttle-is-not-heeded",
        "runs/rate_limit.py",
        "                scheduler.throttled()\n",
        "                pass\n",
        "unit/runs/test_rate_limit.py::test_source_cuts_the_rate_only_for_throttles",
        holds=(
            "faults/test_sharing.py::test_rate_adapts_to_other_users_of_the_account",
        ),
    ),
    Mutant(
        "first-come-first-served",
        "runs/fairness.py",
        "        return self._last.get(caller.name, 0), self._last.get(caller, 0)",
        "        return 0, 0",
        "unit/runs/test_rate_limit.py::test_callers_take_turns",
        holds=("unit/runs/test_bulkhead.py::test_callers_take_turns_for_places",),
    ),
    Mutant(
        "polls-wait-for-every-call",
        "runs/fairness.py",
        "        is_poll = self._poll_credit >= 1\n",
        "        is_poll = False\n",
        "unit/runs/test_rate_limit.py::test_polls_get_their_share_while_calls_wait",
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
        "has_token and self._places.free and",
        "has_token and",
        "unit/runs/test_bulkhead.py::test_requests_under_way_are_limited_to_the_places",
    ),
    Mutant(
        "requests-of-slow-connections-are-sent-together",
        "runs/quota.py",
        "return self._departures.take()",
        "return True",
        "unit/runs/test_scheduler.py::test_rate_holds_after_connections_have_stalled",
        holds=(
            "unit/runs/test_scheduler.py::test_rate_holds_if_each_request_is_replayed",
            "faults/test_sharing.py::test_replays_count_towards_the_rate",
        ),
    ),
    Mutant(
        "late-tokens-of-replicas-add-to-the-burst",
        "runs/shared_rate.py",
        "(tps + burst - capacity) / (1 + USABLE_SECONDS)), capacity)",
        "tps), burst)",
        "unit/runs/test_shared_quota.py::test_tokens_that_are_used_late_are_within_the_burst",
    ),
    Mutant(
        "frozen-replica-uses-its-reservation",
        "runs/reservations.py",
        "asked_at + wait_seconds + USABLE_SECONDS",
        "asked_at + wait_seconds + 60.0",
        "unit/runs/test_shared_quota.py::test_reservation_of_a_frozen_replica_is_not_used",
    ),
    Mutant(
        "static-share-is-used-at-once",
        "runs/reservations.py",
        "        missing = (replica.settled_at - now) * share.tps\n",
        "        missing = 0.0\n",
        "unit/runs/test_shared_quota.py::test_replicas_that_are_cut_off_send_nothing_until_the_store_notices",
    ),
    Mutant(
        "attachment-of-which-the-answer-is-lost-delays-no-share",
        "shared/replica.py",
        "max(self.detached_at, self._claimed_at)",
        "self.detached_at",
        "unit/shared/test_replica.py::test_attachment_of_which_the_answer_is_lost_delays_the_static_share",
    ),
    Mutant(
        "first-replica-after-an-outage-reserves-far-ahead",
        "runs/shared_quota.py",
        "            elif self._reserved.is_early:\n",
        "            elif False:\n",
        "unit/runs/test_shared_quota.py::test_whole_rate_is_used_soon_after_an_outage",
    ),
    Mutant(
        "store-ignores-the-saved-tokens-of-detached-replicas",
        "shared/memory.py",
        "        burst = max(1.0, rate.burst * share)\n",
        "        burst = rate.burst\n",
        "unit/runs/test_shared_quota.py::test_saved_tokens_of_detached_replicas_are_missing_in_the_store",
    ),
    Mutant(
        "turn-of-a-cancelled-call-is-lost",
        "runs/scheduler.py",
        "                self._return_turn()\n",
        "                pass\n",
        "unit/runs/test_scheduler.py::test_call_that_is_cancelled_at_its_turn_returns_it",
    ),
    Mutant(
        "watch-goes-on-after-the-end",
        "runs/subscription.py",
        "                self._is_done = state.run.status in TERMINAL\n",
        "",
        "unit/runs/test_watch.py::test_watch_of_a_run_that_has_ended_returns_one_state",
        holds=("faults/test_watching.py::test_all_watchers_of_a_run_see_every_state",),
    ),
    Mutant(
        "slow-watcher-gets-every-state",
        "runs/watch_state.py",
        "*untaken[1 - MAX_UNTAKEN :]",
        "*untaken",
        "unit/runs/test_watch.py::test_slow_watch_gets_the_newest_state_and_delays_no_other",
        holds=("faults/test_watching.py::test_slow_watcher_gets_the_newest_state",),
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
        "runs/subscription.py",
        "            elif self._is_silent:\n",
        "            elif False:\n",
        "unit/runs/test_watch.py::test_heartbeat_is_sent_after_its_interval_without_a_response",
    ),
    Mutant(
        "messages-of-streams-count-as-read",
        "interceptors/stream_writer.py",
        "self._send_buffer.writing(call, len(message))",
        "self._send_buffer.writing(call, 0)",
        "unit/interceptors/test_stream_writer.py::test_message_beyond_the_unread_limit_is_refused",
        holds=("faults/test_http2.py::test_unread_answers_are_limited",),
    ),
    # Authentication by tokens.
    Mutant(
        "audience-is-not-checked",
        "auth/tokens.py",
        "            and not self._audiences.isdisjoint(audiences)\n",
        "",
        "unit/auth/test_tokens.py::test_invalid_claim_is_refused",
    ),
    Mutant(
        "list-of-algorithms-is-ignored",
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
    # Certificates, listeners and callers without identity.
    Mutant(
        "bad-certificate-replaces-the-good",
        "tls/reloader.py",
        "self._take(self._served, error.args)",
        "self._take(self._served, ())",
        "unit/tls/test_reloader.py::test_fault_is_reported_until_it_is_fixed",
        holds=(
            "faults/test_certificates.py::test_invalid_certificate_keeps_the_old_one",
        ),
    ),
    Mutant(
        "certificate-files-are-served-unchecked",
        "tls/files.py",
        "Contents(certificates_pem(chain), key_pem(key), certificates_pem(clients))",
        "contents",
        "unit/tls/test_reloader.py::test_text_around_pem_is_accepted",
    ),
    Mutant(
        "socket-in-use-is-replaced",
        "app/listener.py",
        'raise InUseError("it is in use; stop what serves it, or change the path")',
        "path.unlink()",
        "unit/app/test_listener.py::test_socket_in_use_is_a_fault",
    ),
    Mutant(
        "listener-serves-everything",
        "app/server_factory.py",
        'if "RunService" in services:',
        "if True:",
        "unit/app/test_listener.py::test_listener_has_only_its_services",
    ),
    Mutant(
        "each-listener-has-its-own-limits",
        "app/interceptor_stack.py",
        "            limits = self._limits\n",
        "            limits = CallerLimits()\n",
        "unit/app/test_listener.py::test_limits_are_shared_by_all_listeners",
    ),
    # Authorization.
    Mutant(
        "caller-without-a-rule-is-allowed",
        "auth/policy.py",
        "return DENY_ALL if at is None",
        "return ALLOW_ALL if at is None",
        "unit/auth/test_policy.py::test_caller_without_a_rule_is_denied",
    ),
    Mutant(
        "answer-is-not-checked-against-the-rule",
        "services/run_service.py",
        "                call.access.check(answer.run)\n",
        "",
        "e2e/test_rules.py::test_shared_fetch_is_answered_only_to_permitted_callers",
        holds=("e2e/test_rules.py::test_forbidden_run_and_missing_run_look_the_same",),
    ),
    # Reloads.
    Mutant(
        "watch-goes-on-against-new-rules",
        "interceptors/authorize.py",
        "            self._revoke(call, GatewayError(Reason.CALLER_NOT_AUTHORIZED))\n",
        "            pass\n",
        "unit/interceptors/test_authorize.py::test_long_call_is_checked_by_new_rules",
        holds=("e2e/test_reload.py::test_watches_are_checked_by_new_rules",),
    ),
    Mutant(
        "half-written-file-is-used",
        "app/reload.py",
        "found == self._seen if is_new else not self._reloads.is_ok",
        "is_new or not self._reloads.is_ok",
        "unit/app/test_reload.py::test_content_must_be_read_twice",
    ),
    Mutant(
        "reload-removes-the-last-rule",
        "settings/reloading.py",
        "if running.callers and not read.callers:",
        "if False:",
        "unit/app/test_reload.py::test_faulty_file_changes_nothing",
        holds=("e2e/test_reload.py::test_faulty_file_keeps_the_rules_and_says_so",),
    ),
    Mutant(
        "withheld-members-stay-as-they-were",
        "services/requests.py",
        "        self._withheld = members\n",
        "",
        "e2e/test_reload.py::test_changed_file_is_found_without_a_signal",
    ),
    Mutant(
        "state-is-encoded-for-the-rules-before",
        "runs/watch_state.py",
        "        await self._lock.acquire()\n",
        "        chosen = selection()\n"
        "        selection = lambda: chosen\n"
        "        await self._lock.acquire()\n",
        "unit/runs/test_watch.py::test_state_that_waits_to_be_encoded_is_of_the_newest_rules",
    ),
    Mutant(
        "reload-forgets-the-quota-in-use",
        "runs/scheduler.py",
        "        return not (self.users or self._queue) and self._quota.is_full\n",
        "        return True\n",
        "unit/runs/test_rate_limit.py::test_account_is_kept_while_its_bucket_is_not_full",
    ),
    Mutant(
        "reload-fills-the-buckets",
        "interceptors/local_limits.py",
        "            bucket.resize(rate=rate, capacity=capacity)\n",
        "            bucket = buckets[name] = TokenBucket(\n"
        "                rate=rate, capacity=capacity, clock=self._clock\n"
        "            )\n",
        "unit/interceptors/test_caller_limits.py::test_new_rule_counts_the_calls_before_it",
    ),
    # Limits of each caller.
    Mutant(
        "callers-of-a-host-share-their-limits",
        "interceptors/authorize.py",
        "                if identity != ANONYMOUS:\n"
        "                    call.caller = Caller(identity, call.peer)\n",
        "",
        "e2e/test_rules.py::test_each_caller_has_its_own_limits",
        holds=(
            "e2e/test_overload.py::test_caller_gets_its_share_of_places",
            "e2e/test_overload.py::test_scanner_delays_no_other_identity",
        ),
    ),
    # Roles that are assumed for callers.
    Mutant(
        "callers-of-a-role-share-a-session",
        "auth/policy.py",
        "return Partition(role, self.identity) if role else OWN",
        "return Partition(role) if role else OWN",
        "unit/auth/test_policy.py::test_partition_is_the_role_and_its_caller",
        holds=(
            "faults/test_roles.py::test_session_has_the_role_and_name_of_its_caller",
        ),
    ),
    Mutant(
        "place-is-held-while-credentials-are-renewed",
        "upstream/healthomics.py",
        "raise self._learn_from(error, reply, credentials, skew) from None\n",
        "learned = self._learn_from(error, reply, credentials, skew)\n"
        "            raise "
        "(await learned.fix() if learned.fix else learned) from None\n",
        "faults/test_roles.py::test_slow_renewal_delays_no_other_caller",
    ),
    Mutant(
        "session-without-a-waiting-call-is-requested",
        "upstream/credentials.py",
        "            if not (self._waiting or is_reading or self._recovers):",
        "            if False:",
        "faults/test_roles.py::test_calls_that_left_a_stalled_sts_use_few_threads",
    ),
    # The log and secrets.
    Mutant(
        "metadata-is-logged",
        "interceptors/audit.py",
        "        peer=call.peer,\n",
        "        peer=call.peer,\n        invocation=call.headers,\n",
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
    # Settings, files and log lines.
    Mutant(
        "fault-repeats-what-was-set",
        "settings/sources.py",
        "format_map(variables)\n",
        "format_map(variables) + f\": {error['input']}\"\n",
        "unit/settings/test_load.py::test_fault_does_not_contain_the_value",
    ),
    Mutant(
        "empty-text-is-none",
        "settings/value_types.py",
        "if is_optional and value is None:",
        'if is_optional and value in ("", None):',
        "unit/settings/test_load.py::test_empty_text_is_a_fault",
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
        "faults-of-the-log-are-not-reported",
        "app/process.py",
        "fault_of_log=log.fault,",
        "fault_of_log=None,",
        "faults/test_log.py::test_blocked_stderr_delays_nothing",
    ),
    Mutant(
        "terminal-obeys-callers",
        "telemetry/log_lines.py",
        "return value if value.isprintable() else _Shown(repr(value))",
        "return value",
        "unit/telemetry/test_log_lines.py::test_harmful_character_is_escaped_wherever_it_is",
    ),
    # Promises that no bug above breaks.
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
        "unit/runs/test_watch.py::test_watches_of_a_run_share_its_polls",
        holds=("faults/test_watching.py::test_watchers_that_leave_end_the_polls",),
    ),
    Mutant(
        "each-replica-has-its-own-poller",
        "runs/shared_watches.py",
        "        return False\n\n    def note_poll",
        "        return True\n\n    def note_poll",
        "unit/runs/test_shared_watches.py::test_run_is_polled_once_a_period_by_all_replicas",
    ),
    Mutant(
        "follower-relies-on-messages",
        "runs/shared_watches.py",
        "        is_valid = self._learn_last(claim)\n",
        "        is_valid = True\n",
        "unit/runs/test_shared_watches.py::test_watch_misses_no_end_if_all_messages_are_lost",
    ),
    Mutant(
        "followers-don-t-look-at-the-members",
        "runs/shared_watches.py",
        "                lease.free()\n",
        "                pass\n",
        "unit/runs/test_shared_watches.py::test_another_replica_polls_soon_after_the_poller_is_gone",
    ),
    Mutant(
        "replica-that-cannot-poll-keeps-its-leases",
        "runs/shared_watches.py",
        "        return self._own_failures >= OWN_FAILURES\n",
        "        return False\n",
        "unit/runs/test_shared_watches.py::test_another_replica_polls_if_the_polls_of_one_fail",
    ),
    Mutant(
        "replica-that-cannot-poll-takes-leases-back",
        "runs/shared_watches.py",
        "            period_seconds = YIELDING_SECONDS\n",
        "            pass\n",
        "unit/runs/test_shared_watches.py::test_replica_whose_polls_fail_takes_no_lease_from_another",
    ),
    Mutant(
        "shutdown-waits-for-watches",
        "app/interceptor_stack.py",
        "        bounds.drain.lasting,\n",
        "        bounds.drain.intercept,\n",
        "e2e/test_drain.py::test_drain_ends_watches_at_once",
    ),
    Mutant(
        "call-without-deadline-never-ends",
        "services/limits.py",
        "seconds = default if own_seconds is None",
        "seconds = inf if own_seconds is None",
        "faults/test_leaving.py::test_call_without_deadline_has_the_default",
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
        "        await self.parts.bounds.drain.drain(seconds)\n",
        "",
        "faults/test_sigterm.py::test_sigterm_loses_no_call_in_time",
        holds=("faults/test_sigterm.py::test_drain_ends_calls_that_hang",),
    ),
    Mutant(
        "renewals-of-credentials-run-side-by-side",
        "upstream/credentials.py",
        "        if self._refresh is None or self._refresh.done():\n",
        "        if True:\n",
        "faults/test_roles.py::test_session_that_expires_during_calls_is_replaced_once",
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
        "settings/listener_checks.py",
        "if not (each.address.is_loopback or each.files or tls.insecure):",
        "if not (each.address or each.files or tls.insecure):",
        "unit/settings/test_load.py::test_public_address_requires_certificates",
    ),
    Mutant(
        "connection-has-any-number-of-calls",
        "app/grpc_server.py",
        '    ("grpc.max_concurrent_streams", 500),\n',
        "",
        "e2e/test_options.py::test_connection_limits_concurrent_calls",
    ),
    Mutant(
        "health-streams-wait-for-one-another",
        "services/health.py",
        "                yield HealthCheckResponse(status=status)\n",
        '                lock = __import__("asyncio").Lock()\n'
        '                async with self.__dict__.setdefault("lock", lock):\n'
        "                    yield HealthCheckResponse(status=status)\n",
        "unit/services/test_health.py::test_health_stream_that_is_not_read_delays_no_other",
    ),
    Mutant(
        "silent-peer-keeps-its-connection",
        "app/grpc_server.py",
        '"grpc.http2.ping_timeout_ms"',
        '"grpc.ping_timeout_ms"',
        "e2e/test_options.py::test_peer_without_ping_answer_is_disconnected",
        holds=("faults/test_http2.py::test_idle_attacker_is_closed_by_a_timer",),
    ),
    Mutant(
        "pings-are-allowed-only-each-5-minutes",
        "app/grpc_server.py",
        '"grpc.http2.min_ping_interval_without_data_ms"',
        '"grpc.http2.min_recv_ping_interval_without_data_ms"',
        "e2e/test_options.py::test_pings_every_10_s_are_answered",
    ),
    Mutant(
        "early-signal-has-python-s-handler",
        "__main__.py",
        "        handle(end_at_once, reloading=reloading)\n",
        "        pass\n",
        "e2e/test_shutdown.py::test_signal_while_modules_are_imported_ends_the_process",
    ),
    Mutant(
        "start-waits-for-the-reader-of-stdout",
        "cli/introduction.py",
        'Thread(target=show_it, name="introduction", daemon=True).start()',
        "show_it()",
        "e2e/test_shutdown.py::test_unread_stdout_delays_nothing",
    ),
    Mutant(
        "caller-without-identity-needs-no-rule",
        "app/interceptor_stack.py",
        "else not self._proves_identities",
        "else True",
        "e2e/test_rules.py::test_anonymous_caller_needs_a_rule",
    ),
    Mutant(
        "rejection-is-sent-at-once",
        "app/interceptor_stack.py",
        "        tarpit,  # before the places: a delayed rejection must not occupy"
        " one\n",
        "",
        "e2e/test_rules.py::test_flood_without_identity_is_refused_at_a_limited_rate",
    ),
    Mutant(
        "closed-service-needs-no-identity",
        "app/interceptor_stack.py",
        "        if name not in open_services\n",
        "        if False\n",
        "e2e/test_rules.py::test_health_requires_a_rule_unless_it_is_open",
    ),
    Mutant(
        "collector-walks-what-stays",
        "app/process.py",
        "    gc.freeze()\n",
        "",
        "unit/app/test_gateway.py::test_permanent_objects_are_not_collected",
    ),
    Mutant(
        "flood-fills-the-log",
        "telemetry/log_limit.py",
        "passes = self._lines[kind] <= self._lines_per_second",
        "passes = True",
        "unit/telemetry/test_log_limit.py::test_flood_of_one_kind_is_cut_and_counted",
    ),
    # Metrics.
    Mutant(
        "each-caller-is-a-series",
        "interceptors/metrics.py",
        "rules.count(call.access.rule.label)",
        "rules.numbers[call.identity] = 1",
        "e2e/test_metrics.py::test_no_call_adds_a_series",
    ),
    Mutant(
        "cancelled-call-counts-as-ok",
        "interceptors/metrics.py",
        "note_end(call, error, lasted=perf_counter() - begun)",
        "_ = error",
        "e2e/test_metrics.py::test_health_and_reflection_are_counted_with_their_messages",
    ),
)
