import org.apache.activemq.artemis.core.config.impl.SecurityConfiguration;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.spi.core.security.ActiveMQJAASSecurityManager;
import org.apache.activemq.artemis.spi.core.security.jaas.InVMLoginModule;

/** Runs a broker until it is killed. Arguments: configuration, user, password. */
class Artemis {
  public static void main(String[] args) throws Exception {
    var accounts = new SecurityConfiguration();
    accounts.addUser(args[1], args[2]);
    accounts.addRole(args[1], "all");
    var broker = new EmbeddedActiveMQ();
    broker.setConfigResourcePath(new java.io.File(args[0]).toURI().toString());
    broker.setSecurityManager(new ActiveMQJAASSecurityManager(InVMLoginModule.class.getName(), accounts));
    broker.start();
    System.out.println("READY");
    Thread.currentThread().join();
  }
}
