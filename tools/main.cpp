// The `ranvier` program: subcommands, and the one place that turns errors into a line and an exit status.
#include "tools/cli.h"

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
  using namespace ranvier;
  CLI::App app{"Ranvier: trains small vision models, and more, without any framework", "ranvier"};
  app.set_version_flag("--version", RANVIER_VERSION);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every subcommand");
  cli::add_info(app);
  cli::add_data(app);
  cli::add_train(app);
  cli::add_eval(app);
  cli::add_predict(app);
  cli::add_bench(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fmt::print(stderr, "ranvier: {}\n", error.what());
    return 2;
  } catch (const cli::Exit& exit) {
    return exit.status;
  } catch (const cli::UsageError& error) {
    fmt::print(stderr, "ranvier: {}\n", error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "ranvier: out of memory\n");
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "ranvier: {}\n", error.what());
    return 2;
  }
}
