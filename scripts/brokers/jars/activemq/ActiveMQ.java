import java.io.File;
import java.util.Arrays;
import java.util.List;
import org.apache.activemq.broker.BrokerPlugin;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.security.AuthenticationUser;
import org.apache.activemq.security.SimpleAuthenticationPlugin;
import org.apache.activemq.store.kahadb.KahaDBPersistenceAdapter;
import org.apache.activemq.store.kahadb.disk.journal.Journal.JournalDiskSyncStrategy;

/** Runs a broker until it is killed. Arguments: data directory, user, password, connectors. */
class ActiveMQ {
  public static void main(String[] args) throws Exception {
    var store = new KahaDBPersistenceAdapter();
    store.setDirectory(new File(args[0]));
    store.setJournalMaxFileLength(8 << 20);
    store.setJournalDiskSyncStrategy(JournalDiskSyncStrategy.ALWAYS.name());
    var broker = new BrokerService();
    broker.setBrokerName("edge");
    broker.setUseJmx(false);
    broker.setPersistenceAdapter(store);
    broker.setPlugins(new BrokerPlugin[] {
      new SimpleAuthenticationPlugin(List.of(new AuthenticationUser(args[1], args[2], "all")))
    });
    for (var connector : Arrays.asList(args).subList(3, args.length)) {
      broker.addConnector(connector);
    }
    broker.start();
    broker.waitUntilStarted();
    System.out.println("READY");
    broker.waitUntilStopped();
  }
}
