// Subcommands of `ranvier pinn` that have files of their own.
#pragma once
#include <string>

#include "tools/cli.h"

namespace ranvier::cli {

/// `ranvier pinn compare`.
void add_pinn_compare(CLI::App& pinn);
/// `ranvier pinn many`.
void add_pinn_many(CLI::App& pinn);
/// `ranvier pinn infer`.
void add_pinn_infer(CLI::App& pinn);
/// `ranvier pinn pde`.
void add_pinn_pde(CLI::App& pinn);

}  // namespace ranvier::cli
