// Rates of the two published networks, printed by tools/bench/peer_networks.py (NumPy, independent of this project).
#pragma once

namespace ranvier::golden {

struct Mean {
  double value, error;  ///< error: standard error over seeds
};

/// peer_networks.py --seeds 20: rates in Hz over 1 s, shares of power of the population rate.
constexpr Mean cortical_excitatory{7.5803, 0.0410}, cortical_inhibitory{7.3278, 0.0522};
constexpr Mean cortical_5_15_hz{0.3411, 0.0138}, cortical_30_60_hz{0.2388, 0.0152};
/// peer_networks.py --seeds 0 --polychronous-seeds 8 --seconds 2: the second second; mean excitatory weight after it.
constexpr Mean polychronous_excitatory{4.6936, 0.1295}, polychronous_inhibitory{17.1219, 0.5496},
    polychronous_weight{6.0184, 0.0010};

}  // namespace ranvier::golden
