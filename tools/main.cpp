// The `ranvier` program: subcommands, and the one place that turns errors into a line and an exit status.
#include "tools/cli.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>

namespace {

/// The one line about what went wrong. Never throws, whatever standard error is.
int complain(std::string what) {
  std::replace_if(
      what.begin(), what.end(), [](unsigned char c) { return c < ' '; }, ' ');  // a user's text may hold any
  std::fputs(("ranvier: " + what + "\n").c_str(), stderr);
  return 2;
}

/// Exit status of a command that has done its work: 2 when its output did not arrive.
int finish(int status) {
  const bool written = std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout.flush().good();
  return written ? status : complain("standard output cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ranvier;
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is a failed write with a message, like a full disk
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
  cli::add_simulate(app);
  cli::add_pinn(app);
  cli::add_coupling(app);
  cli::add_study(app);
  cli::add_view(app);
  try {
    app.parse(argc, argv);
    return finish(0);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return finish(app.exit(error));
    const auto unknown = app.remaining(true);
    if (dynamic_cast<const CLI::RequiredError*>(&error) && !unknown.empty())
      return complain(fmt::format("unknown argument '{}' (try --help)", unknown.front()));
    return complain(fmt::format("{} (try --help)", error.what()));
  } catch (const cli::Exit& exit) {
    return exit.status;
  } catch (const std::bad_alloc&) {
    return complain("out of memory");
  } catch (const std::exception& error) {
    return complain(error.what());
  }
}
