/* The simulator by jumps: equal to stepwise.py to the last bit. A replica's event is the end of a segment of steps. */

#include "cluster.h"

static void route(i32 s);
static void fill(i32 number);

/* -- steps ---------------------------------------------------------------------------------------------------------- */

/* Begin a step on an idle replica that has work. */
static void wake(i32 number) {
    Replica *r = &replicas[number];
    if (r->ends != NEVER) return;
    i64 duration = form(r);
    if (!duration) return;
    r->began = now;
    r->ends = now + duration;
    requeue(number);
}

/* A request came to a replica in the middle of a segment: it is cut after the step under way. */
static void cut(i32 number) {
    Replica *r = &replicas[number];
    if (r->ends == NEVER || r->segment == 1) return;
    r->segment = step_under_way(r);
    r->ends = r->began + segment_time(r, r->segment);
    requeue(number);
}

static void enqueue(i32 number, i32 s) {
    Replica *r = &replicas[number];
    append(&r->waiting, s);
    if (r->waiting.count == 1 && r->running.count < r->row->max_batch) cut(number);
}

/* -- where requests go ---------------------------------------------------------------------------------------------- */

static i32 least(const PoolState *pool) {
    i32 best = pool->active[0];
    for (i64 i = 1; i < pool->active_count; i++)
        if (load(&replicas[pool->active[i]]) < load(&replicas[best])) best = pool->active[i];
    return best;
}

static i32 of_two(const PoolState *pool, i32 s) {
    u64 count = (u64)pool->active_count;
    u64 draw = mix((u64)run->seed + (u64)s * 0x9E3779B97F4A7C15ULL + (u64)++sequences[s].routed * 0xD1B54A32D192ED03ULL);
    if (count == 1) return pool->active[0];
    u64 first = (draw & 0xFFFFFFFF) % count, second = (draw >> 32) % (count - 1);
    second += second >= first;
    i32 one = pool->active[first], two = pool->active[second];
    return load(&replicas[one]) <= load(&replicas[two]) ? one : two;
}

static i32 by_prefix(PoolState *pool, i32 s) {
    i64 matched = 0, low = INT64_MAX, high = 0;
    i32 owner = NONE;
    for (i64 block = run->offsets[s]; block < run->offsets[s + 1]; block++, matched++) {
        u64 slot = mix((u64)run->hashes[block]) % AFFINITY_SLOTS;
        if (pool->owner[slot] == NONE || pool->owner_key[slot] != run->hashes[block]) break;
        owner = pool->owner[slot];
    }
    for (i64 i = 0; i < pool->active_count; i++) {
        i64 size = load(&replicas[pool->active[i]]);
        if (size < low) low = size;
        if (size > high) high = size;
    }
    int uneven = high - low > 64 && 2 * high > 3 * low, near = 10 * matched * run->hash_tokens > 3 * run->prompt[s];
    i32 chosen = near && !uneven && replicas[owner].status == ACTIVE ? owner : least(pool);
    for (i64 block = run->offsets[s]; block < run->offsets[s + 1]; block++) {
        u64 slot = mix((u64)run->hashes[block]) % AFFINITY_SLOTS;
        pool->owner_key[slot] = run->hashes[block];
        pool->owner[slot] = chosen;
    }
    return chosen;
}

static void route(i32 s) {
    PoolState *pool = &pools[sequences[s].pool];
    i32 number;
    if (!pool->active_count) {
        append(&pool->orphans, s);
        return;
    }
    switch (pool->row->router) {
    case ROUND_ROBIN: number = pool->active[pool->turn++ % pool->active_count]; break;
    case LEAST_LOADED: number = least(pool); break;
    case POWER_OF_TWO: number = of_two(pool, s); break;
    default: number = by_prefix(pool, s);
    }
    enqueue(number, s);
    wake(number);
}

static void fill(i32 number) {
    Replica *r = &replicas[number];
    PoolState *pool = &pools[r->pool];
    if (r->status != ACTIVE) return;
    while (pool->backlog_count && load(r) < pool->row->fill) {
        i32 s = backlog_pop(pool);
        if (!sequences[s].queued || sequences[s].pool != r->pool) continue;
        sequences[s].queued = 0;
        enqueue(number, s);
    }
    wake(number);
}

static void ready(i32 s) {
    Sequence *q = &sequences[s];
    PoolState *pool = &pools[q->pool];
    const Pool *row = pool->row;
    i64 most = row->handoff_pool >= 0 ? run->prompt[s] : run->prompt[s] + run->output[s] - 1;
    if (ceil_div(most, row->block_tokens) > row->blocks) {
        run->rejected[s] = 1;
        done_count++;
        return;
    }
    i64 deadline = run->deadline[s];
    if (deadline < 0 || now >= deadline - row->slack) {
        route(s);
        return;
    }
    backlog_push(pool, (Waiting){deadline, s});
    q->queued = 1;
    push_event(deadline - row->slack, URGENT, s, q->pool);
    if (pool->active_count) fill(least(pool));
}

static void begin(i32 s, i32 pool) {
    i32 routed = sequences[s].routed;
    uint8_t queued = sequences[s].queued;
    sequences[s] = (Sequence){.pool = pool, .routed = routed, .queued = queued};
}

static void approach(i32 s, i64 pool, i64 time) {
    const Pool *row = &run->pools[pool];
    i64 at = time + row->request + row->prompt_token * run->prompt[s];
    begin(s, (i32)pool);
    if (at == now) ready(s);
    else push_event(at, READY, s, 0);
}

/* -- replicas come and go ------------------------------------------------------------------------------------------- */

static void set_status(i32 number, int status) {
    PoolState *pool = &pools[replicas[number].pool];
    replicas[number].status = status;
    pool->active_count = 0;
    for (i64 i = pool->row->first; i < pool->row->first + pool->row->slots; i++)
        if (replicas[i].status == ACTIVE) pool->active[pool->active_count++] = (i32)i;
}

static void activate(i32 number) {
    PoolState *pool = &pools[replicas[number].pool];
    set_status(number, ACTIVE);
    List orphans = pool->orphans;
    pool->orphans = (List){NONE, NONE, 0};
    for (i32 s = orphans.head, after; s != NONE; s = after) {
        after = sequences[s].after;
        route(s);
    }
    fill(number);
}

static void switch_off(i32 number) {
    set_status(number, OFF);
    run->powered[number] += now - replicas[number].powered_since;
}

/* A draining replica without requests is let go. */
static void emptied(i32 number) {
    if (replicas[number].status == DRAINING && !load(&replicas[number])) switch_off(number);
}

/* Time in steps until now, of which the last one is not complete. */
static void account(i32 number) {
    Replica *r = &replicas[number];
    if (r->ends == NEVER) return;
    run->busy[number] += now - r->began;
    run->steps[number] += step_under_way(r) - 1;
}

static void lose(i32 s) {
    Sequence *q = &sequences[s];
    q->computed = q->blocks = 0;
    q->shared = q->generated = 0;
    q->decoding = 0;
    run->retries[s]++;
    route(s);
}

static void fail(i32 number, i64 repair) {
    Replica *r = &replicas[number];
    if (r->status != ACTIVE && r->status != DRAINING) return;
    List lost[2] = {r->running, r->waiting};
    account(number);
    r->ends = NEVER;
    requeue(number);
    empty_replica(r);
    if (r->status == ACTIVE) {
        set_status(number, FAILED);
        push_event(now + repair, REPAIRED, number, 0);
    } else {
        emptied(number);
    }
    for (int i = 0; i < 2; i++)
        for (i32 s = lost[i].head, after; s != NONE; s = after) {
            after = sequences[s].after;
            lose(s);
        }
}

/* -- autoscaler ----------------------------------------------------------------------------------------------------- */

static void grow(PoolState *pool, i64 more) {
    i64 first = pool->row->first, past = first + pool->row->slots;
    for (i64 i = first; i < past; i++)
        if (more > 0 && replicas[i].status == DRAINING) {
            more--;
            activate((i32)i);
        }
    for (i64 i = first; i < past; i++)
        if (more > 0 && replicas[i].status == OFF) {
            more--;
            set_status((i32)i, STARTING);
            replicas[i].powered_since = now;
            push_event(now + pool->row->cold_start, STARTED, (i32)i, ++replicas[i].fetching);
        }
}

static void shrink(PoolState *pool, i64 fewer) {
    i64 first = pool->row->first, past = first + pool->row->slots;
    for (i64 i = past - 1; i >= first; i--)
        if (fewer > 0 && replicas[i].status == STARTING) {
            fewer--;
            switch_off((i32)i);
        }
    for (i64 i = past - 1; i >= first; i--)
        if (fewer > 0 && replicas[i].status == ACTIVE) {
            fewer--;
            set_status((i32)i, DRAINING);
            emptied((i32)i);
        }
}

static void record(i64 pool, i64 active, i64 starting, i64 total) {
    if (run->scaling_count < run->scaling_capacity)
        memcpy(run->scaling + 5 * run->scaling_count, (i64[]){now, pool, active, starting, total}, 5 * sizeof(i64));
    run->scaling_count++;
}

static void tick(i64 index) {
    PoolState *pool = &pools[index];
    const Pool *row = pool->row;
    i64 active = 0, starting = 0, total = pool->orphans.count, most = 0;
    pool->next_tick += row->scale_interval;
    for (i64 i = row->first; i < row->first + row->slots; i++) {
        active += replicas[i].status == ACTIVE;
        starting += replicas[i].status == STARTING;
        if (replicas[i].status == ACTIVE || replicas[i].status == DRAINING) total += load(&replicas[i]);
    }
    record(index, active, starting, total);
    pool->loads[pool->ticks++ % (row->scale_delay_ticks + 1)] = total;
    if (pool->ticks <= row->scale_delay_ticks) return;
    i64 observed = pool->loads[pool->ticks % (row->scale_delay_ticks + 1)] * 1000, current = active + starting;
    if (observed * 1000 > current * row->target_milli * (1000 + row->tolerance_milli)) {
        i64 desired = ceil_div(observed, row->target_milli);
        pool->wanted_count = 0;
        grow(pool, (desired < row->maximum ? desired : row->maximum) - current);
        return;
    }
    i64 safe = ceil_div(observed * 1000, row->target_milli * (1000 - row->tolerance_milli));
    if (safe < row->minimum) safe = row->minimum;
    if (safe > current) safe = current;
    pool->wanted[pool->wanted_count++ % row->window_ticks] = safe;
    if (current < row->minimum) {
        grow(pool, row->minimum - current);
        return;
    }
    if (pool->wanted_count < row->window_ticks) return;
    for (i64 i = 0; i < row->window_ticks; i++)
        if (pool->wanted[i] > most) most = pool->wanted[i];
    if (most < current) shrink(pool, current - most);
}

/* -- the loop ------------------------------------------------------------------------------------------------------- */

static void leave(i32 number, i32 s) {
    Sequence *q = &sequences[s];
    const Pool *row = &run->pools[q->pool];
    if (q->generated < run->output[s]) {
        begin(s, (i32)row->handoff_pool);
        q->generated = 1;
        q->computed = run->prompt[s];
        q->decoding = 1;
        push_event(now + row->handoff_latency + row->handoff_token * run->prompt[s], READY, s, 0);
        return;
    }
    i64 judge = row->cascade_pool >= 0 || row->handoff_pool < 0 ? q->pool : row->handoff_pool;
    const Pool *judged = &run->pools[judge];
    if (judged->cascade_pool >= 0 && run->escalate[s] >> judge & 1) {
        run->escalated[s] = 1;
        approach(s, judged->cascade_pool, now + judged->cascade_decision);
        return;
    }
    run->finish[s] = now;
    run->replica[s] = number;
    done_count++;
}

static void end_step(i32 number) {
    Replica *r = &replicas[number];
    run->busy[number] += r->ends - r->began;
    run->steps[number] += r->segment;
    i64 count = end_segment(r, leaving);
    for (i64 i = 0; i < count; i++) leave(number, leaving[i]);
    r->ends = NEVER;
    if (count) {
        fill(number);
        emptied(number);
    }
    wake(number);
    if (r->ends == NEVER) requeue(number);
}

static void next_failure(void) {
    const i64 *row = run->failures + 3 * failures_seen++;
    fail((i32)row[1], row[2]);
}

static void handle_event(void) {
    Event event = pop_event();
    switch (event.kind) {
    case READY: ready(event.what); break;
    case URGENT:
        if (sequences[event.what].queued && sequences[event.what].pool == event.more) {
            sequences[event.what].queued = 0;
            route(event.what);
        }
        break;
    case STARTED:
        if (replicas[event.what].status == STARTING && replicas[event.what].fetching == event.more)
            activate(event.what);
        break;
    default: activate(event.what);
    }
}

static i64 next_arrival(void) {
    if (sent_count == run->request_count) return NEVER;
    if (run->concurrency && sent_count - done_count >= run->concurrency) return NEVER;
    return run->arrival[sent_count] > now ? run->arrival[sent_count] : now;
}

/* Handle the next event; 0: there is none. The order at equal times is that of stepwise.py. */
static int advance(void) {
    i64 time = replicas[queue[0]].ends, tick_time = NEVER, ticking = 0, arrival = next_arrival();
    i64 failure = failures_seen < run->failures_count ? run->failures[3 * failures_seen] : NEVER;
    i64 event = event_count ? events[0].time : NEVER;
    int rank = 0;
    for (i64 i = 0; i < run->pool_count; i++)
        if (pools[i].next_tick < tick_time) tick_time = pools[ticking = i].next_tick;
    if (failure < time) time = failure, rank = 1;
    if (tick_time < time) time = tick_time, rank = 2;
    if (event < time) time = event, rank = 3;
    if (arrival < time) time = arrival, rank = 4;
    if (time == NEVER) return 0;
    now = time;
    switch (rank) {
    case 0: end_step(queue[0]); break;
    case 1: next_failure(); break;
    case 2: tick(ticking); break;
    case 3: handle_event(); break;
    default: {
        i32 s = (i32)sent_count++;
        run->sent[s] = now;
        approach(s, run->entry[s], now);
    }
    }
    return 1;
}

static int make_pool(i64 index) {
    const Pool *row = &run->pools[index];
    PoolState *pool = &pools[index];
    pool->row = row;
    pool->active = malloc(sizeof(i32) * (size_t)(row->slots + 1));
    pool->orphans = (List){NONE, NONE, 0};
    pool->next_tick = row->scale_interval ? row->scale_interval : NEVER;
    pool->loads = calloc((size_t)row->scale_delay_ticks + 1, sizeof(i64));
    pool->wanted = calloc((size_t)row->window_ticks + 1, sizeof(i64));
    if (!pool->active || !pool->loads || !pool->wanted) return 1;
    if (row->router == PREFIX_AWARE) {
        pool->owner_key = malloc(sizeof(i64) * AFFINITY_SLOTS);
        pool->owner = malloc(sizeof(i32) * AFFINITY_SLOTS);
        if (!pool->owner_key || !pool->owner) return 1;
        memset(pool->owner, 0xff, sizeof(i32) * AFFINITY_SLOTS);
    }
    for (i64 i = row->first; i < row->first + row->slots; i++) {
        Replica *r = &replicas[i];
        r->row = row;
        r->decode = run->decode + row->decode_offset;
        r->pool = (i32)index;
        r->ends = NEVER;
        r->heap = malloc(sizeof(i32) * (size_t)row->max_batch);
        r->scheduled = malloc(sizeof(i32) * (size_t)row->max_batch);
        r->residues = malloc(sizeof(i64) * (size_t)row->block_tokens);
        if (!r->heap || !r->scheduled || !r->residues) return 1;
        if (row->prefix_cache) {
            r->entry_blocks = run->hash_tokens / row->block_tokens;
            if (cache_make(&r->cache, row->blocks / r->entry_blocks + 1)) return 1;
        }
        empty_replica(r);
    }
    for (i64 i = row->first; i < row->first + row->slots; i++)
        set_status((i32)i, i < row->first + row->initial ? ACTIVE : OFF);
    return 0;
}

static int make(void) {
    i64 most = 1, count = run->replica_count;
    event_size = 1024;
    event_count = scheduled_events = sent_count = done_count = failures_seen = now = 0;
    sequences = calloc((size_t)run->request_count + 1, sizeof(Sequence));
    entry_of_block = malloc(sizeof(i32) * (size_t)(run->offsets[run->request_count] + 1));
    replicas = calloc((size_t)count + 1, sizeof(Replica));
    pools = calloc((size_t)run->pool_count, sizeof(PoolState));
    queue = malloc(sizeof(i32) * (size_t)(count + 1));
    queue_at = malloc(sizeof(i32) * (size_t)(count + 1));
    events = malloc(sizeof(Event) * (size_t)event_size);
    if (!sequences || !entry_of_block || !replicas || !pools || !queue || !queue_at || !events) return 1;
    for (i64 i = 0; i < run->pool_count; i++) {
        if (make_pool(i)) return 1;
        if (run->pools[i].max_batch > most) most = run->pools[i].max_batch;
    }
    for (i32 i = 0; i <= count; i++) queue[i] = queue_at[i] = i;
    replicas[count].ends = NEVER;
    leaving = malloc(sizeof(i32) * (size_t)most);
    return !leaving;
}

static void discard(void) {
    for (i64 i = 0; replicas && i < run->replica_count; i++) {
        free(replicas[i].heap);
        free(replicas[i].scheduled);
        free(replicas[i].residues);
        free(replicas[i].cache.entries);
        free(replicas[i].cache.buckets);
    }
    for (i64 i = 0; pools && i < run->pool_count; i++) {
        free(pools[i].active);
        free(pools[i].backlog);
        free(pools[i].owner_key);
        free(pools[i].owner);
        free(pools[i].loads);
        free(pools[i].wanted);
    }
    free(sequences);
    free(entry_of_block);
    free(replicas);
    free(pools);
    free(queue);
    free(queue_at);
    free(leaving);
    free(events);
}

/* Serve every request. Returns 1 when memory ran out. One run at a time: the state is static. */
int simulate(Run *given) {
    run = given;
    leaving = NULL;
    int failed = make();
    if (!failed) {
        while (done_count < run->request_count && advance()) continue;
        for (i32 i = 0; i < run->replica_count; i++) {
            account(i);
            if (replicas[i].status != OFF) run->powered[i] += now - replicas[i].powered_since;
        }
        run->end = now;
    }
    discard();
    return failed;
}
