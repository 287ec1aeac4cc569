// device/index_memory.hpp -- what opening a store by name needs besides the index itself.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/index_spans.hpp"

#include "device/file_claim.hpp"

namespace speckv {

// Where the index of a store of that name lies, for shm_open(): the same for all ways to
// spell the name. An error: there can be none, as there is no such file.
Result<std::string> index_file(std::string_view name);

// open_index_memory() for a store in these files. A process that was killed counts as
// alive until they are free of its I/O, too: what it was writing must not be given to
// others while a late write may still come.
Result<IndexMemory> attach_index_memory(std::string_view name, std::uint64_t bytes,
                                        const FileClaims& files);

// Takes shared memory for all that this process will use of the index, which is sparse:
// where somebody else filled that memory up, a touch would end the process. no_space.
Status reserve_index_memory(const IndexMemory& memory,
                            const std::vector<IndexSpan>& spans);

// A number of this index, and of no other: not of one of the same name that was removed.
// `memory` is of open_index_memory().
std::uint64_t index_identity(const IndexMemory& memory);

// For an open that was refused: whether nobody ever formatted this index, in which case
// its name is removed, unless somebody else is attached. `memory` is of
// open_index_memory().
bool abandon_index_memory(const IndexMemory& memory) noexcept;

}  // namespace speckv
