// cxlspeckv/cxlspeckv.hpp -- the library's whole vocabulary, in reading order.
#pragma once

// clang-format off
#include "cxlspeckv/status.hpp"     // Code, Status, Result: how calls answer
#include "cxlspeckv/block.hpp"      // BlockKey, BlockLayout, KeyChain: what is stored
#include "cxlspeckv/address.hpp"    // KvAddress: one token's K or V, packed
#include "cxlspeckv/device.hpp"     // Device, Queue, Transfer: where bytes are put
#include "cxlspeckv/codec.hpp"      // Codec: how they are written down
#include "cxlspeckv/kvq4_planes.hpp" // kvq4's layer with a second plane: 8 bits
#include "cxlspeckv/profile.hpp"    // ProfileShape: what a codec may know of a model
#include "cxlspeckv/tier.hpp"       // Tier, Policy: a device, a codec, what it gives up
#include "cxlspeckv/metrics.hpp"    // MetricSink, EventSink, Clock: what a store tells
#include "cxlspeckv/operation.hpp"  // Operation, CompletionQueue: transfers in flight
#include "cxlspeckv/store.hpp"      // BlockStore: blocks in, blocks out
#include "cxlspeckv/sequence.hpp"   // Sequence, View: the KV of one request
#include "cxlspeckv/promotion.hpp"  // promote(): blocks to a faster tier, told of each
#include "cxlspeckv/prefetcher.hpp" // Prefetcher: KV there before it is asked for
#include "cxlspeckv/stream_prefetcher.hpp" // the same for what a stream uses next
#include "cxlspeckv/inspect.hpp"    // StoreInfo, PoolInfo: a look from outside
// clang-format on
