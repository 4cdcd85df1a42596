/* One replica: queue, batch, memory. The rules are those of scheduler.py; decode steps of an equal batch are one segment.

Sequences that decode advance together: `clock` counts the replica's steps, a decoding sequence holds clock + offset
tokens and leaves when the clock shows `leaves`. A step needs a new block for each sequence whose tokens fill their last
one; `residues` counts the sequences by offset modulo the block, so the need of any future step is known at once. */

#include "prefix_cache.h"

#define NEVER INT64_MAX
#define LONGEST_SEGMENT 16384 /* keeps the sums far below 2^63 */

typedef struct {
    i64 first, slots, initial, max_batch, blocks, chunk, block_tokens, kv, prefill_token, prefill_step, pair_femto;
    i64 decode_offset, request, prompt_token, router, prefix_cache, handoff_pool, handoff_latency, handoff_token;
    i64 cascade_pool, cascade_decision, scale_interval, scale_delay_ticks, target_milli, minimum, maximum;
    i64 tolerance_milli, window_ticks, cold_start, fill, slack;
} Pool;

typedef struct {
    i64 leaves, offset, stamp, computed, blocks;
    i32 generated, shared, chunk, pool, before, after, heap_at, routed;
    uint8_t decoding, queued;
} Sequence;

typedef struct {
    i32 head, tail;
    i64 count;
} List;

typedef struct {
    const Pool *row;
    const i64 *decode;
    i32 pool, status, fetching;
    i32 partial;                 /* the running sequence whose prompt is not complete; always the last one */
    i64 began, ends, powered_since;
    i64 segment;                 /* steps until `ends` */
    i64 clock, stamps, private_blocks, entry_blocks;
    i64 batch, held;             /* decoding sequences and the tokens they hold */
    List waiting, running;
    i32 *heap, *scheduled;       /* decoding sequences by (leaves, stamp); prompts in this step */
    i64 heap_count, scheduled_count;
    i64 *residues;
    Cache cache;
} Replica;

/* Inputs and outputs of a run; the order is that of `_Run` in native.py. */
typedef struct {
    const Pool *pools;
    const i64 *decode, *arrival, *prompt, *output, *entry, *deadline, *escalate, *offsets, *hashes, *failures;
    i64 *sent, *first, *finish, *replica, *preempted, *reused, *retries, *escalated, *rejected;
    i64 *busy, *powered, *steps, *scaling;
    i64 pool_count, request_count, replica_count, failures_count, hash_tokens, concurrency, seed, scaling_capacity;
    i64 scaling_count, end;
} Run;

static Sequence *sequences;
static i32 *entry_of_block;      /* [hashes] cache entry of each prompt block that a sequence shares */
static Run *run;
static i64 now;

static inline i64 ceil_div(i64 value, i64 by) { return (value + by - 1) / by; }
static inline i64 modulo(i64 value, i64 by) { return ((value % by) + by) % by; }
static inline i64 target(i32 s) { return run->prompt[s] + sequences[s].generated; }
static inline i64 load(const Replica *r) { return r->waiting.count + r->running.count; }

static void append(List *list, i32 s) {
    sequences[s].before = list->tail;
    sequences[s].after = NONE;
    if (list->tail == NONE) list->head = s;
    else sequences[list->tail].after = s;
    list->tail = s;
    list->count++;
}

static void prepend(List *list, i32 s) {
    sequences[s].before = NONE;
    sequences[s].after = list->head;
    if (list->head == NONE) list->tail = s;
    else sequences[list->head].before = s;
    list->head = s;
    list->count++;
}

static void unlink_sequence(List *list, i32 s) {
    Sequence *q = &sequences[s];
    if (q->before == NONE) list->head = q->after;
    else sequences[q->before].after = q->after;
    if (q->after == NONE) list->tail = q->before;
    else sequences[q->after].before = q->before;
    list->count--;
}

/* -- decoding sequences by the step at which they leave, then by admission ------------------------------------------ */

static inline int sooner(i32 a, i32 b) {
    const Sequence *p = &sequences[a], *q = &sequences[b];
    return p->leaves != q->leaves ? p->leaves < q->leaves : p->stamp < q->stamp;
}

static inline void put(Replica *r, i64 at, i32 s) {
    r->heap[at] = s;
    sequences[s].heap_at = (i32)at;
}

static void sift_up(Replica *r, i64 at, i32 s) {
    for (i64 parent; at && sooner(s, r->heap[parent = (at - 1) / 2]); at = parent) put(r, at, r->heap[parent]);
    put(r, at, s);
}

static void sift_down(Replica *r, i64 at, i32 s) {
    for (i64 child; (child = 2 * at + 1) < r->heap_count; at = child) {
        if (child + 1 < r->heap_count && sooner(r->heap[child + 1], r->heap[child])) child++;
        if (!sooner(r->heap[child], s)) break;
        put(r, at, r->heap[child]);
    }
    put(r, at, s);
}

static void heap_push(Replica *r, i32 s) { sift_up(r, r->heap_count++, s); }

static void heap_remove(Replica *r, i32 s) {
    i64 at = sequences[s].heap_at;
    i32 last = r->heap[--r->heap_count];
    if (last == s) return;
    if (at && sooner(last, r->heap[(at - 1) / 2])) sift_up(r, at, last);
    else sift_down(r, at, last);
}

/* -- memory --------------------------------------------------------------------------------------------------------- */

static inline i64 available(const Replica *r) {
    return r->row->blocks - r->private_blocks - r->entry_blocks * r->cache.referenced;
}

static inline void take_blocks(Replica *r, i64 count) {
    r->private_blocks += count;
    if (r->entry_blocks)
        while (r->cache.idle && available(r) < r->entry_blocks * r->cache.idle) cache_evict(&r->cache);
}

static i64 hits(const Replica *r, i32 s, i64 *referenced) {
    *referenced = 0;
    if (!r->entry_blocks || sequences[s].decoding) return 0;
    i64 start = run->offsets[s], most = run->offsets[s + 1] - start, limit = (target(s) - 1) / run->hash_tokens;
    if (limit < most) most = limit;
    for (i64 depth = 0; depth < most; depth++) {
        i32 at = cache_find(&r->cache, run->hashes[start + depth]);
        if (at == NONE) return depth;
        entry_of_block[start + depth] = at;
        *referenced += r->cache.entries[at].references > 0;
    }
    return most;
}

/* Full prompt blocks become cache entries; a copy of one that is there already is given back for it. */
static void register_blocks(Replica *r, i32 s) {
    Sequence *q = &sequences[s];
    if (!r->entry_blocks) return;
    i64 start = run->offsets[s], full = run->offsets[s + 1] - start, computed = q->computed / run->hash_tokens;
    if (computed < full) full = computed;
    for (; q->shared < full; q->shared++) {
        i64 block = start + q->shared;
        i32 at = cache_find(&r->cache, run->hashes[block]);
        if (at == NONE) at = cache_add(&r->cache, run->hashes[block]);
        else cache_take(&r->cache, at);
        entry_of_block[block] = at;
        r->private_blocks -= r->entry_blocks;
    }
}

static void release(Replica *r, i32 s) {
    Sequence *q = &sequences[s];
    r->private_blocks -= q->blocks - r->entry_blocks * q->shared;
    for (i64 block = run->offsets[s] + q->shared - 1; block >= run->offsets[s]; block--)
        cache_drop(&r->cache, entry_of_block[block]);
    q->computed = q->blocks = 0;
    q->shared = 0;
    q->decoding = 0;
}

/* -- a step --------------------------------------------------------------------------------------------------------- */

static i64 step_need(const Replica *r, i64 clock) { return r->residues[modulo(-clock, r->row->block_tokens)]; }

/* Take a decoding sequence out of the batch; what it holds is written into it. */
static void leave_batch(Replica *r, i32 s) {
    Sequence *q = &sequences[s];
    i64 held = r->clock + q->offset;
    heap_remove(r, s);
    r->residues[modulo(q->offset, r->row->block_tokens)]--;
    r->batch--;
    r->held -= held;
    q->blocks = ceil_div(held, r->row->block_tokens);
    q->generated = (i32)(run->output[s] - (q->leaves - r->clock));
}

static void preempt_last(Replica *r) {
    i32 s = r->running.tail;
    if (s == r->partial) r->partial = NONE;
    else leave_batch(r, s);
    unlink_sequence(&r->running, s);
    release(r, s);
    prepend(&r->waiting, s);
    run->preempted[s]++;
}

/* Blocks for the next token of every decoding sequence, in order of admission. Returns whether one had to go. */
static int make_room(Replica *r) {
    i64 need = step_need(r, r->clock);
    if (need <= available(r)) {
        take_blocks(r, need);
        return 0;
    }
    for (i32 s = r->running.head; s != NONE && s != r->partial; s = sequences[s].after) {
        if (modulo(r->clock + sequences[s].offset, r->row->block_tokens)) continue;
        while (available(r) < 1 && r->running.tail != s) preempt_last(r);
        if (available(r) < 1) {
            preempt_last(r);
            break;
        }
        take_blocks(r, 1);
    }
    return 1;
}

static void schedule(Replica *r, i32 s, i64 tokens) {
    Sequence *q = &sequences[s];
    i64 more = ceil_div(q->computed + tokens, r->row->block_tokens) - q->blocks;
    q->blocks += more;
    q->chunk = (i32)tokens;
    r->scheduled[r->scheduled_count++] = s;
    take_blocks(r, more);
}

static i64 admit(Replica *r, i32 s, i64 budget) {
    Sequence *q = &sequences[s];
    i64 referenced, found = hits(r, s, &referenced);
    if (ceil_div(target(s), r->row->block_tokens) - r->entry_blocks * referenced > available(r)) return 0;
    unlink_sequence(&r->waiting, s);
    append(&r->running, s);
    q->stamp = r->stamps++;
    for (i64 depth = 0; depth < found; depth++) cache_take(&r->cache, entry_of_block[run->offsets[s] + depth]);
    if (found) {
        q->computed = found * run->hash_tokens;
        run->reused[s] += q->computed;
    }
    q->shared = (i32)found;
    q->blocks = r->entry_blocks * found;
    i64 rest = target(s) - q->computed, tokens = rest < budget ? rest : budget;
    schedule(r, s, tokens);
    return tokens;
}

static inline i64 segment_time(const Replica *r, i64 steps) {
    i64 kv = r->row->kv;
    return steps * (r->decode[r->batch] + kv * r->held) + kv * r->batch * (steps * (steps - 1) / 2);
}

/* Decode steps until the first sequence leaves or memory runs out; the first step's blocks are taken already. */
static i64 segment_length(const Replica *r) {
    i64 steps = sequences[r->heap[0]].leaves - r->clock, size = r->row->block_tokens, room = available(r);
    if (steps > LONGEST_SEGMENT) steps = LONGEST_SEGMENT;
    if (r->batch * ((steps - 1) / size + 1) <= room) return steps;
    i64 most = 1 + room / r->batch * size;
    room -= room / r->batch * r->batch;
    while (most < steps && step_need(r, r->clock + most) <= room) room -= step_need(r, r->clock + most++);
    return most < steps ? most : steps;
}

static i64 mixed_time(const Replica *r) {
    i64 batch = r->batch, held = r->held, prefill = 0, pairs = 0;
    for (i64 i = 0; i < r->scheduled_count; i++) {
        const Sequence *q = &sequences[r->scheduled[i]];
        if (q->decoding) {
            batch++;
            held += q->computed;
        } else {
            prefill += q->chunk;
            pairs += q->chunk * q->computed + (i64)q->chunk * (q->chunk + 1) / 2;
        }
    }
    i64 time = r->decode[batch] + r->row->kv * held;
    if (prefill) time += r->row->prefill_step + r->row->prefill_token * prefill + r->row->pair_femto * pairs / 1000;
    return time;
}

/* Decide the next segment and return how long it takes; 0: nothing to do. */
static i64 form(Replica *r) {
    int preempted = r->batch ? make_room(r) : 0;
    i64 budget = r->row->chunk - r->batch;
    r->scheduled_count = 0;
    if (r->partial != NONE) {
        i32 s = r->partial;
        i64 rest = target(s) - sequences[s].computed, tokens = rest < budget ? rest : budget;
        if (ceil_div(sequences[s].computed + tokens, r->row->block_tokens) - sequences[s].blocks > available(r)) {
            preempt_last(r);
            preempted = 1;
        } else {
            schedule(r, s, tokens);
            budget -= tokens;
        }
    }
    while (r->waiting.count && !preempted && r->running.count < r->row->max_batch && budget) {
        i64 tokens = admit(r, r->waiting.head, budget);
        if (!tokens) break;
        budget -= tokens;
    }
    r->segment = 1;
    if (r->scheduled_count) return mixed_time(r);
    if (!r->batch) return 0;
    if (!preempted) r->segment = segment_length(r);
    return segment_time(r, r->segment);
}

/* The first step of the segment that ends after `now`. */
static i64 step_under_way(const Replica *r) {
    i64 low = 1, high = r->segment;
    while (low < high) {
        i64 middle = (low + high) / 2;
        if (segment_time(r, middle) > now - r->began) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* A prompt chunk is computed; a complete prompt gives a token and the sequence decodes from here on. */
static void end_chunk(Replica *r, i32 s) {
    Sequence *q = &sequences[s];
    if (q->computed < target(s)) {
        r->partial = s;
        return;
    }
    if (r->partial == s) r->partial = NONE;
    if (!q->generated++) run->first[s] = now;
    q->decoding = 1;
    q->leaves = r->row->handoff_pool >= 0 ? r->clock : r->clock + run->output[s] - q->generated;
    q->offset = q->computed - r->clock;
    r->residues[modulo(q->offset, r->row->block_tokens)]++;
    r->batch++;
    r->held += q->computed;
    heap_push(r, s);
}

/* End the segment; write the sequences that leave, in order of admission, and return their number. */
static i64 end_segment(Replica *r, i32 *leaving) {
    i64 size = r->row->block_tokens, later = r->segment - 1, need = later / size * r->batch, count = 0;
    for (i64 step = later - later % size; step < later; step++) need += step_need(r, r->clock + 1 + step);
    if (need) take_blocks(r, need);
    r->clock += r->segment;
    r->held += r->batch * r->segment;
    for (i64 i = 0; i < r->scheduled_count; i++) {
        Sequence *q = &sequences[r->scheduled[i]];
        q->computed += q->chunk;
        if (!q->decoding) register_blocks(r, r->scheduled[i]);
    }
    for (i64 i = 0; i < r->scheduled_count; i++) end_chunk(r, r->scheduled[i]);
    r->scheduled_count = 0;
    while (r->heap_count && sequences[r->heap[0]].leaves == r->clock) {
        i32 s = r->heap[0];
        int handed = r->row->handoff_pool >= 0;
        leave_batch(r, s);
        if (handed) sequences[s].generated = 1;
        unlink_sequence(&r->running, s);
        release(r, s);
        leaving[count++] = s;
    }
    return count;
}

/* Lose everything; the caller has the lists. */
static void empty_replica(Replica *r) {
    r->waiting = r->running = (List){NONE, NONE, 0};
    r->heap_count = r->scheduled_count = r->batch = r->held = r->private_blocks = 0;
    r->partial = NONE;
    memset(r->residues, 0, sizeof(i64) * (size_t)r->row->block_tokens);
    cache_clear(&r->cache);
}
