// The subcommand that solves a batch.
#pragma once
#include <string>

#include "tools/cli.h"

namespace ranvier::cli {

/// `ranvier pinn many`.
void add_pinn_many(CLI::App& pinn);

/// The stimulus of the presets' published protocols, where none is given.
std::string default_current(const std::string& neuron);

}  // namespace ranvier::cli
