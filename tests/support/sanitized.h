// Whether this is a build under AddressSanitizer: what takes minutes there may leave out what another case covers.
#pragma once

namespace ranvier::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace ranvier::test
