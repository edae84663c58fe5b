// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// virDomainFSFreeze blocks for ever by default when the agent does not answer; virDomainAgentSetResponseTimeout bounds it
// inside libvirtd, so that no thread of ours is left behind.
#include "engine/vm/freeze.h"

#include <algorithm>
#include <thread>

#include <libvirt/virterror.h>

#include "engine/io/fault.h"

namespace nasbackup::vm {
namespace {

constexpr std::chrono::milliseconds kThawAgainAfter{250};
constexpr std::chrono::seconds kAnswerPatience{5};  ///< for an agent that has nothing to do
/// For one answer. Long, because a request that is given up is carried out all the same, and the next one queues behind
/// it: a thaw that takes eight seconds (hook scripts) would never be seen to succeed with a patience of five.
constexpr std::chrono::seconds kThawPatience{20};
/// For an agent that is gone, or says no at once: it has been asked dozens of times then, and somebody goes on asking.
constexpr std::chrono::seconds kRefusalPatience{5};

/// Bounds the agent's answers for as long as it lives, then puts libvirt's default back (the old value cannot be read).
class AgentPatience {
 public:
  AgentPatience(Domain& domain, std::chrono::seconds patience) noexcept : domain_(domain) {
    const int seconds = static_cast<int>(std::clamp<std::int64_t>(patience.count(), 1, 3600));
    virDomainAgentSetResponseTimeout(domain_.get(), seconds, 0);
  }
  ~AgentPatience() { virDomainAgentSetResponseTimeout(domain_.get(), VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0); }
  AgentPatience(const AgentPatience&) = delete;
  AgentPatience& operator=(const AgentPatience&) = delete;

 private:
  Domain& domain_;
};

constexpr char kRefusal[] = "unable to execute QEMU agent command";
constexpr char kNoAgent[] = "is not connected";

bool was_refused(const LibvirtError& error) { return error.message.find(kRefusal) != std::string::npos; }

/// True when the agent answers at all, even if only to refuse. A freeze that is asked of an agent that sleeps would be
/// carried out when it wakes up, perhaps an hour later (seen with libvirt 9.0, which reports that time-out as "not
/// available for now" although the request was sent). This question does no harm then.
bool agent_answers(const Domain& domain) noexcept {
  long long seconds = 0;
  unsigned nanoseconds = 0;
  return virDomainGetTime(domain.get(), &seconds, &nanoseconds, 0) == 0 || was_refused(last_error());
}

/// True when the freeze never reached an agent, or the agent answered no: it thaws by itself what it had frozen, and a
/// freeze that somebody else asked for before is not ours to end. In doubt false.
bool nothing_was_frozen(const LibvirtError& error) {
  if (was_refused(error)) return true;
  if (error.code == VIR_ERR_AGENT_UNRESPONSIVE) return error.message.find(kNoAgent) != std::string::npos;
  return error.code == VIR_ERR_ARGUMENT_UNSUPPORTED || error.code == VIR_ERR_NO_SUPPORT ||
         error.code == VIR_ERR_OPERATION_INVALID || error.code == VIR_ERR_NO_DOMAIN;
}

bool is_a_no(const std::string& answer) noexcept {
  return answer.find(kNoAgent) != std::string::npos || answer.find(kRefusal) != std::string::npos;
}

}  // namespace

bool thaw_once(Domain& domain, std::chrono::seconds agent_patience, std::string* answer) noexcept {
  try {
    if (!domain.connected()) domain.reconnect();
    const AgentPatience patience(domain, agent_patience);
    if (virDomainFSThaw(domain.get(), nullptr, 0, 0) >= 0) return true;
    if (answer != nullptr) *answer = last_error().message;
    return !domain.state().active();
  } catch (const Fault& fault) {
    if (answer != nullptr) *answer = fault.what();
    return fault.kind() == FaultKind::not_found;  // no such domain any more
  } catch (const std::exception&) {
    return false;
  }
}

bool thaw_until(Domain& domain, std::chrono::seconds patience, std::string* answer) noexcept {
  const auto began = std::chrono::steady_clock::now();
  while (!thaw_once(domain, std::min(patience, kThawPatience), answer)) {
    const auto enough = answer != nullptr && is_a_no(*answer) ? std::min(patience, kRefusalPatience) : patience;
    if (std::chrono::steady_clock::now() - began >= enough) return false;
    std::this_thread::sleep_for(kThawAgainAfter);
  }
  return true;
}

void GuestFreeze::freeze(AgentChannel agent, std::chrono::seconds timeout) noexcept {
  if (agent != AgentChannel::connected) {
    warning_ = agent == AgentChannel::absent
                   ? "guest agent: the domain has no channel for it (org.qemu.guest_agent.0); not quiesced"
                   : "guest agent: it does not run in the guest; not quiesced";
    return;
  }
  {
    const AgentPatience patience(domain_, std::min(timeout, kAnswerPatience));
    if (!agent_answers(domain_)) {
      warning_ = "guest agent: does not answer; not quiesced: " + last_error().message;
      return;
    }
  }
  const AgentPatience patience(domain_, timeout);
  asked_ns_ = monotonic_ns();
  state_.guest_frozen.store(true);
  was_frozen_ = virDomainFSFreeze(domain_.get(), nullptr, 0, 0) >= 0;
  if (!was_frozen_) judge_failed_freeze(timeout);
}

void GuestFreeze::judge_failed_freeze(std::chrono::seconds timeout) {
  const LibvirtError error = last_error();
  // A request that was sent and not answered may still freeze the guest later: then the thaw stays owed.
  const bool nothing = nothing_was_frozen(error);
  if (nothing) state_.guest_frozen.store(false);
  warning_ = nothing ? "guest agent: refused to freeze the file systems"
                     : "guest agent: did not freeze the file systems within " + std::to_string(timeout.count()) + " s";
  warning_ += "; not quiesced: " + error.message;
}

bool GuestFreeze::thaw(std::chrono::seconds patience) noexcept {
  if (!thaw_owed()) return true;
  if (!thaw_until(domain_, patience, &thaw_answer_)) return false;
  if (was_frozen_) frozen_for_ = std::chrono::nanoseconds(monotonic_ns() - asked_ns_);
  state_.guest_frozen.store(false);
  return true;
}

}  // namespace nasbackup::vm
