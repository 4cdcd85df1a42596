"""Names that vulture finds no use of in the code, each with what uses it. What no line here excuses is deleted."""

# Called by name: by a library, a template, another process or a program that holds the client.
_.dispatch  # starlette: a middleware's method (lab.http_stack)
_.application  # uvicorn: the benchmark's applications are named in a command line (lab.http_stack)
_.obj  # typer: where a command finds the session
_.send_400_response  # uvicorn's protocol: how a request that cannot be read is answered
_.should_exit  # uvicorn's server: told to stop
_.capture_signals  # uvicorn's server: Bessemer handles signals itself
_.serialize  # the workflow library's serializer
_.deserialize  # the same
_.isolation_level  # sqlite3's connection: transactions begin where SQLAlchemy begins them
_.unraisablehook  # sys: how an error that nobody can catch is logged
_.debug  # logging: a level that the log formatter is called by
_._value_  # enum: the value of a member that is made of a tuple
_._missing_  # enum: reads the role names of earlier releases
_.special_token_ids  # llguidance: read of the tokenizer that it is given
_.eos_token_id  # the same
_.bos_token_id  # the same
_.grade_text  # named in the source of the process that texts are graded in (evals.apart)
_.pareto  # plan.html
_.staircase  # plan.html
_.ownership_tornado  # plan.html
_.energy  # plan.html
_.get_inference  # the client: every endpoint has a call
_.create_plan  # the same
_.get_plan  # the same
_.liveness  # the same
_.readiness  # the same
_.describe  # the same
_.stream_chat  # the same
_.include_obfuscation  # OpenAI's and vLLM's options of a stream: taken, and ours is as it is
_.continuous_usage_stats  # the same
_.completion_tokens_details  # ChatUsage: read by clients
_.goodput_s  # the simulator as a library: docs/simulator.md

# For tests alone, and not worth a second way in: the product's own functions at another scale.
_.TABLE  # http.surface: the endpoints of a plain installation, which the tests of all endpoints go through
_.open_url  # store: a database without its data folder
_.schema_version  # store.schema: a table that migrations alone write
_.score_interval  # evals.paired: shows the test's statistic against published intervals

# Of the ladder.
_.worse_than_plain  # lab.ladder: what the final scoring says of each set
_.doubly_robust  # evals.verdict_losses: compared with `not_this`, by which rungs are fitted
_.expected_reward  # the same
_.right_only  # the same
_.best_single  # LadderResult: read by clients and the command line's table
_.doing  # LadderProgress: read by clients
_.DEVELOPMENT  # lab.sealed
_.open_file  # lab.sealed
_.split_rows  # lab.sealed
_.ips  # OffPolicyValue: what `dr`, which is shown, is compared with in its golden vectors
_.snips  # the same
_.dm  # the same
_.brier  # CalibrationError: beside the error that is shown

# Values that come from data: files, rows and requests name them.
_.MEASURED  # Basis of a prediction
_.LLM_JUDGE  # FeedbackSource of a row
_.CODE  # FeedbackSource
_.OUTCOME  # FeedbackSource
_.ON_DEMAND  # Term of a price table
_.CAPACITY_BLOCK  # Term
_.YEAR  # Term
_.THREE_YEARS  # Term
_.SAVINGS_YEAR  # Term
_.SAVINGS_THREE_YEARS  # Term

# Read of a request or a configuration by name, or passed on as a whole.
_.presence_penalty  # ChatRequest: refused by name unless 0
_.frequency_penalty  # ChatRequest: the same
_.strict  # Tool, JSON schema: passed on
_.max_completions_tokens  # sampling of a judge: passed on
_.memory_mb  # Limits: encoded for the process that keeps a grader's code
_.sample_parse_error  # GraderErrors: set by name, encoded as OpenAI's
_.unresponsive_reward_error  # GraderErrors
_.invalid_variable_error  # GraderErrors
_.other_error  # GraderErrors
_.python_grader_server_error  # GraderErrors
_.model_grader_server_error  # GraderErrors
_.model_grader_refusal_error  # GraderErrors
_.model_grader_parse_error  # GraderErrors
_.model_grader_server_error_details  # GraderErrors
_.offline  # Anchor: scenarios are read by name
_.starting  # ScaleRow, ScalePoint: the simulator's result by column
_.time_s  # ScalePoint: the same
_.pool_of_replica  # SimulationResult: the same

# Encoded: a client, a page, a report or a results file reads them.
_.first_id  # Page: OpenAI's field
_.owned_by  # ModelObject: OpenAI's
_.deleted  # FileDeleted: OpenAI's
_.alarm_at  # RungReport
_.last_feedback_at  # MonitorReport
_.guarantee_void  # MonitorReport
_.reasoning_content  # ChatMessage, ChatDelta: what servers of open models say
_.system_fingerprint  # ChatCompletion: OpenAI's
_.organization_id  # FineTuningJob: OpenAI's
_.result_files  # FineTuningJob: OpenAI's
_.estimated_finish  # FineTuningJob: OpenAI's
_.fine_tuned_model_checkpoint  # FineTuningCheckpoint: OpenAI's
_.fine_tuning_job_id  # FineTuningCheckpoint: OpenAI's
_.compute_seconds  # JobExtension, and the job's stored result
_.start_score  # JobExtension
_.best_score  # JobExtension
_.best_step  # JobExtension
_.delta_spent  # Guarantee, CascadeResult
_.claimed_author  # Feedback: what the client said of itself, kept beside what counts
_.claimed_source  # Feedback: the same
_.share_full  # Finding of a grader's check
_.guarantee_note  # Report: turn.html
_.tokens_sampled  # EngineStats: counters of the engine as a library
_.tokens_prefilled  # EngineStats
_.tokens_cached  # EngineStats
_.p99_ttft  # ServerRow: lab/results
_.p99_tpot  # ServerRow
_.ttft_limit  # ServerRow
_.tpot_limit  # ServerRow
_.measured_p99_ttft  # ServerRow
_.measured_p99_tpot  # ServerRow
_.power_w  # Accelerator: a fact of the catalogue
_.domain  # Instance: a fact of the catalogue
_.vcpu  # Instance
_.ram_gib  # Instance
_.break_even_utilisation  # HourCurve of a plan
_.minimum_accelerators  # Commitment of a plan
_.beyond_horizon_usd  # Commitment
_.operated_by  # Management of a plan
_.staff_usd_per_year  # Management
_.spare_accelerators  # Management
_.provisioned_kw  # Power of a plan
_.average_facility_kw  # Power
_.kwh_per_year  # Power
_.cheaper_probability  # BreakEven of a plan
_.depreciation_usd_per_month  # WayCosts of a plan
_.tpot_p50_s  # LatencyCheck of a plan
_.ttft_p95_s  # EndToEnd of a plan
_.price_source  # Purchase: plan.html
_.peak_accelerators  # Fleet: plan.html
_.mean_accelerators  # Fleet
_.load_share  # Fleet
_.kwh_per_month  # Fleet
_.peak_kw  # Fleet
_.made_at  # Plan
_.end_to_end  # Plan
_.owned_fleets  # Plan
_.solving  # Plan: plan.html
_.predicted_tpot_ms  # RowResult: lab/results
_.predicted_ttft_ms  # RowResult
_.rows_in_calibration  # PredictionErrors: lab/results
_.interval_coverage_80_ttft  # PredictionErrors
_.throughput_rank_correlation_best  # PredictionErrors
_.all_rows  # PredictionErrors
_.unseen_groups  # PredictionErrors
_.by_group  # PredictionErrors
_.respond  # the client: every endpoint has a call
_.stream_response  # the same
_.store  # fields of wire objects that are written, or looked at by name
_.background  # the same
_.previous_response_id  # the same
_.max_tool_calls  # the same
_.input_tokens_details  # the same
_.output_tokens_details  # the same
_.completed_at  # the same
_.incomplete_details  # the same
_.stream_message  # the client: every endpoint has a call
_.message  # the same
_.thinking  # MessageRequest: taken, and changes nothing
_.cache_control  # the same
_.stop_sequence  # MessageObject: read by clients
_.cache_read_input_tokens  # MessageUsage: the same
_.cache_creation_input_tokens  # the same
_.stop_reason  # the same
_.pause_writing  # _Connection: asyncio calls it
_.eof_received  # the same
_.on_header  # _Connection: httptools calls it
_.on_body  # the same
ClientResponse  # client/concurrent.py: in an annotation that is text, so that aiohttp is loaded late
_.request_counts  # BatchObject: read by clients
_.expires_after  # UploadForm: describes the form
failed_at  # BatchObject: read by clients
expired_at  # the same
cancelled_at  # the same
